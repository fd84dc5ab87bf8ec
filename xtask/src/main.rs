//! The project's own verbs, one file each: `cargo xtask VERB`.
//!
//! They run cargo, rustup and the project's binaries, and print what they run. They know nothing of
//! policies or packets; what the verbs prove is in the crates that they call.

mod bench;
mod build;
mod ci;
mod counts;
mod demo;
mod fuzz;
mod mutants;
mod object;
mod run;
mod setup;
mod test;
mod tidy;
#[path = "../../sg-agent/build/toolchain.rs"]
#[expect(unreachable_pub, reason = "a build script compiles the same module")]
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The project's own verbs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    /// Finds or installs what the build needs; does nothing the second time
    Setup,
    /// Builds the agent with its programs, and checks the object
    Build(build::Options),
    /// Runs every test; as root also those that need the kernel
    Test(test::Options),
    /// Runs the tests that need the kernel on another one, in a virtual machine
    Vm(vm::Options),
    /// Shows the product at work in a lab of namespaces (root)
    Demo(demo::Options),
    /// Measures the product, alone and beside others (root)
    Bench(bench::Options),
    /// Tries inputs that nobody thought of, and shows the smallest that fails
    Fuzz(fuzz::Options),
    /// Changes the code that judges packets and sees whether a test notices (an hour)
    Mutants(mutants::Options),
    /// Checks the house rules that no compiler knows
    Tidy(tidy::Options),
    /// Everything that must pass before a change lands, in order
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup => setup::run().map(|_| ()),
        Verb::Build(options) => build::run(&options).map(|_| ()),
        Verb::Test(options) => test::run(&options),
        Verb::Vm(options) => vm::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Tidy(options) => tidy::run(&options),
        Verb::Mutants(options) => mutants::run(&options),
        Verb::Ci(options) => ci::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
