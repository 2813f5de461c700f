# Ids, queues and workers, which the broker knows; for any other value, what zsh does by default.
_celeriac_values() {
    local values="$(celeriac completions --values -- "${celeriac_words[@]}" 2>/dev/null)"
    if [[ -n "$values" ]]; then
        compadd -V celeriac -- "${(@f)values}"
    else
        _default "$@"
    fi
}
