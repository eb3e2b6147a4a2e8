//! `spot-relay`: see `spot_relay::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    spot_relay::cli::main()
}
