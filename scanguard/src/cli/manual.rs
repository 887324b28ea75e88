//! Generates manual pages and shell completions from the command line's definition, for packagers.

use std::{fs, io, path::Path};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate, generate_to};

use super::Cli;

/// Prints the completions of one shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "scanguard", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes a manual page for the command and each of its subcommands into `directory`/man, and completions into
/// `directory`/completions.
///
/// # Errors
/// A file could not be written.
pub fn write(directory: &Path) -> io::Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "scanguard", &completions)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let directory = std::env::temp_dir().join(format!("scanguard-manual-{}", std::process::id()));
        write(&directory).unwrap();
        let of = |name: &str| fs::read_to_string(directory.join("man").join(name)).unwrap();
        assert!(of("scanguard.1").contains("Exit codes"));
        assert!(of("scanguard-run.1").contains("\\-\\-iface"));
        assert!(of("scanguard-ban.1").contains("CIDR"));
        assert!(directory.join("completions/_scanguard").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
