//! House rules and errands of the workspace: `cargo xtask ci`, `tidy`, `real`, `kill`, `interop`,
//! `fixtures`.
//!
//! Plain `std` wherever it serves; JSON is read because `cargo metadata` writes it. Start reading
//! at [`ci`] for the order of the checks and at [`tidy`] for the rules themselves.

mod ci;
mod command;
mod deny;
mod environment;
mod features;
mod interop;
mod kill;
mod options;
mod provenance;
mod real;
mod shared;
mod tidy;
mod workspace;

use anyhow::{Result, bail};
use options::Options;
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <task>

  ci [--only STAGE] [--skip STAGE]       every check, in order, stopping at the first failure
                                         stages: fmt tidy clippy tests doctests docs features deny
  tidy                                   the house rules that no compiler knows
  features                               no library crate enables a backend
  deny                                   licences, bans, sources and advisories of the dependencies
  fixtures --check                       every binary fixture has the digest its provenance states
  real [--shared DIR]                    tests on real models and data
  kill [--times N]                       runs killed at N random instants, 200 if not given, must
                                         give what runs that are left alone give
  interop [--venv DIR] [--shared DIR] [--only SCRIPT]
                                         the Python peers read what we write, and the reverse;
                                         `--venv` may be given several times";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let options = Options::parse(args)?;
    let workspace = Workspace::find()?;
    match task.as_str() {
        "ci" => {
            options.expect_only(&["only", "skip"])?;
            ci::run(&workspace, &options)
        }
        "tidy" => {
            options.expect_only(&[])?;
            tidy::run(&workspace)
        }
        "features" => {
            options.expect_only(&[])?;
            features::run(&workspace)
        }
        "deny" => {
            options.expect_only(&[])?;
            deny::run(&workspace)
        }
        "fixtures" => {
            options.expect_only(&["check"])?;
            provenance::run(&workspace)
        }
        "real" => {
            options.expect_only(&["shared"])?;
            real::run(&workspace, &options)
        }
        "kill" => {
            options.expect_only(&["times"])?;
            kill::run(&workspace, &options)
        }
        "interop" => {
            options.expect_only(&["venv", "shared", "only"])?;
            interop::run(&workspace, &options)
        }
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("`{other}` is not a task\n\n{USAGE}"),
    }
}
