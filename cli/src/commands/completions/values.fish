# Ids, queues and workers, which the broker knows.
function __fish_celeriac_values
    celeriac completions --values -- (commandline -opc) (commandline -ct) 2>/dev/null
end

# In the place of a flag's value the flag itself asks.
function __fish_celeriac_ask
    set -g __fish_celeriac_known (__fish_celeriac_values)
    set -q __fish_celeriac_known[1]
end

complete -c celeriac -k -f -n __fish_celeriac_ask -a '$__fish_celeriac_known'
