//! `heph tool completions`

use heph_common::Exit;

use crate::context::Context;
use crate::error::Result;

/// Prints a script that makes a shell complete commands and addresses.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
bash:  echo 'source <(heph tool completions bash)' >> ~/.bashrc
zsh:   echo 'source <(heph tool completions zsh)' >> ~/.zshrc
fish:  heph tool completions fish > ~/.config/fish/completions/heph.fish")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// bash splits words at `:` and `=` too, which are part of addresses: the words are taken from the line itself, and
/// what bash already has is cut off the candidates.
const BASH: &str = r#"_heph() {
    local line=${COMP_LINE:0:COMP_POINT} words=() candidate
    read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local index=$((${#words[@]} - 1))
    local word=${words[index]}
    local had=${word%"${word##*[\"\'@><=;|&(:]}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        candidate=${candidate%%$'\t'*}
        case $candidate in
            */ | *:) compopt -o nospace ;;
        esac
        COMPREPLY+=("${candidate#"$had"}")
    done < <("${words[0]}" __complete "$index" -- "${words[@]}" 2>/dev/null)
}
complete -o default -F _heph heph
"#;

const ZSH: &str = r#"#compdef heph
_heph() {
    local line value
    local -a finished unfinished
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        case $value in
            */|*:) unfinished+=("$value") ;;
            *) finished+=("$value") ;;
        esac
    done < <("${words[1]}" __complete $((CURRENT - 1)) -- "${(@)words[1,CURRENT]}" 2>/dev/null)
    (( $#finished )) && compadd -- "${finished[@]}"
    (( $#unfinished )) && compadd -S '' -- "${unfinished[@]}"
}
compdef _heph heph
"#;

const FISH: &str = r#"function __heph_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -a words "$current"
    $words[1] __complete (math (count $words) - 1) -- $words 2>/dev/null
end
complete -c heph -f -a '(__heph_complete)'
"#;

pub(super) fn run(context: &Context, args: &CompletionsArgs) -> Result<Exit> {
    context.print(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    })?;
    Ok(Exit::Success)
}
