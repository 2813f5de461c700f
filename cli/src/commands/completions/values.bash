# Ids, queues and workers, which the broker knows. The generated function knows all other words.
_celeriac_values() {
    local line="${COMP_LINE:0:COMP_POINT}" words word typed known
    local -a values=()
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    typed="${words[${#words[@]}-1]}"
    # bash completes only what follows the last `:` or `=` of a word.
    known="${typed%"$2"}"
    known="${known#--*=}"
    while IFS= read -r word; do
        word="$(printf '%q' "${word#"$known"}")"
        # A comma needs no quote, and the next word of a list follows it.
        values+=("${word//\\,/,}")
    done < <(celeriac completions --values -- "${words[@]}" 2>/dev/null)
    _celeriac "$@"
    ((${#values[@]})) || return 0
    for word in "${COMPREPLY[@]}"; do
        # Of the other words, only commands may stand in the place of a value.
        [[ $word == [a-z]* && " ${values[*]} " != *" $word "* ]] && values+=("$word")
    done
    COMPREPLY=("${values[@]}")
}

# Since version 4.4 bash can keep the order: the newest tasks come first.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)); then
    complete -F _celeriac_values -o nosort -o bashdefault -o default celeriac
else
    complete -F _celeriac_values -o bashdefault -o default celeriac
fi
