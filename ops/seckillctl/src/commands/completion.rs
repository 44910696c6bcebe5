//! Completion for shells.

use clap::{Command, ValueEnum};
use clap_complete::{Generator, Shell};

/// The shells for which a script can be printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CompletedShell {
    /// `source <(seckillctl completion bash)`
    Bash,
    /// `seckillctl completion zsh > "${fpath[1]}/_seckillctl"`
    Zsh,
    /// `seckillctl completion fish | source`
    Fish,
}

/// The script for `command`, the whole command line.
pub(crate) fn script(shell: CompletedShell, mut command: Command) -> String {
    command.set_bin_name("seckillctl");
    command.build();
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    shell.generate(&command, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
