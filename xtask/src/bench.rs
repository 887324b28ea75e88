//! `cargo xtask bench`: what ScanGuard costs.

use anyhow::Result;

use crate::{
    build::Profile,
    demo,
    setup::{self, Purpose},
    workspace::Workspace,
};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure a build for debugging, which takes minutes less to make; the tables say so
    #[arg(long)]
    debug: bool,
    /// Passed on to the benchmark: options such as --end-to-end, --peers, --scale and --write; see --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs `cargo xtask bench`.
///
/// # Errors
/// Without root, or when setup or the build fails; after that this process becomes the benchmark.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    let has = |wanted: &str| args.args.iter().any(|arg| arg == wanted);
    if has("--peers") || has("--write") {
        setup::peers::unpack(ws);
    }
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    demo::run_as_root(ws, "bench", purpose(&args.args), profile, &args.args)
}

/// Packet by packet needs less than the rest, which CI need not install.
fn purpose(args: &[String]) -> Purpose {
    let is_long = |arg: &String| {
        ["--end-to-end", "--outbound", "--peers", "--latency", "--flood", "--drop", "--write"]
            .contains(&arg.as_str())
    };
    if args.iter().any(is_long) { Purpose::Bench } else { Purpose::Packets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_over_a_wire_needs_clients_and_servers() {
        let purpose = |args: &[&str]| purpose(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        assert!(purpose(&["--rounds", "1"]) == Purpose::Packets);
        assert!(purpose(&["--scale", "1000"]) == Purpose::Packets);
        assert!(purpose(&["--drop"]) == Purpose::Bench);
        assert!(purpose(&["--seconds", "1", "--peers"]) == Purpose::Bench);
        assert!(purpose(&["--write"]) == Purpose::Bench);
    }
}
