"""`streamgauge completion`: the shell's completion script.

Rules: the three scripts ask one question, by `_STREAMGAUGE_COMPLETE=words_complete`: what fits COMP_LINE, the line to
the cursor, whose last word as the shell has it is COMP_WORD. Each answer is a line: its type, the word, its help, with
tabs between. What stands after `--option=` is answered without that; each script knows what its shell replaces.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

BASH = r"""_streamgauge_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" type value help
    COMPREPLY=()
    while IFS=$'\t' read -r type value help; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value == *= ]] && compopt -o nospace ;;
        esac
    done < <(COMP_LINE="$line" COMP_WORD="${line##*[[:space:]]}" _STREAMGAUGE_COMPLETE=words_complete "$1")
    return 0
}
complete -o nosort -F _streamgauge_completion streamgauge
"""

ZSH = r"""#compdef streamgauge

_streamgauge_completion() {
    local -a plain described open answers
    local answer type value help
    (( $+commands[streamgauge] )) || return 1
    answers=("${(@f)$(COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" COMP_WORD="$PREFIX" \
        _STREAMGAUGE_COMPLETE=words_complete streamgauge)}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    for answer in $answers; do
        IFS=$'\t' read -r type value help <<< "$answer"
        case $type in
            dir) _path_files -/ ;;
            file) _path_files ;;
            plain)
                if [[ $value == *= ]]; then open+=("$value")
                elif [[ -n $help ]]; then described+=("${value//:/\\:}:$help")
                else plain+=("$value"); fi ;;
        esac
    done
    (( $#described )) && _describe -V streamgauge described
    (( $#plain )) && compadd -V streamgauge -a plain
    (( $#open )) && compadd -S '' -V streamgauge -a open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _streamgauge_completion "$@"
else
    compdef _streamgauge_completion streamgauge
fi
"""

FISH = r"""function _streamgauge_completion
    set -l word (commandline -ct)
    set -l before (string match -r -- '^--[^=]+=' $word)
    set -l rest (string replace -r -- '^--[^=]+=' '' $word)
    for answer in (COMP_LINE=(commandline -cp) COMP_WORD=$word _STREAMGAUGE_COMPLETE=words_complete streamgauge)
        set -l parts (string split --max 2 \t -- $answer)
        switch $parts[1]
            case dir
                for found in (__fish_complete_directories $rest)
                    echo "$before$found"
                end
            case file
                for found in (__fish_complete_path $rest)
                    echo "$before$found"
                end
            case plain
                printf '%s\t%s\n' "$before$parts[2]" "$parts[3]"
        end
    end
end
complete --no-files --command streamgauge --arguments '(_streamgauge_completion)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


class Words(ShellComplete):
    """What the scripts ask and how they are answered."""

    name = "words"
    source_template = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and that."""
        typed = "".join(split_arg_string(os.environ["COMP_WORD"])[:1])
        line = os.environ["COMP_LINE"]
        args = split_arg_string(line)[1:]
        return (args[:-1] if typed and args else args), typed

    def format_completion(self, item: CompletionItem) -> str:
        """`plain`, the word, its help."""
        return "\t".join((item.type, str(item.value), " ".join((item.help or "").split())))


add_completion_class(Words)


@click.command(
    epilog="""\b
Examples:
  streamgauge completion bash > ~/.local/share/bash-completion/completions/streamgauge
  streamgauge completion zsh  > "${fpath[1]}/_streamgauge"
  streamgauge completion fish > ~/.config/fish/completions/streamgauge.fish
"""
)
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; source it, or keep it where the shell looks."""
    click.echo(SCRIPTS[shell], nl=False)
