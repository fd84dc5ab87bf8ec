//! How the demo speaks: headings, sentences, commands with their output, and checked expectations.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::IpAddr,
    time::Instant,
};

use anyhow::{Result, bail, ensure};
use sg_tests::{
    lab::{Cli, Namespace, Outcome, Output, Probe},
    syscall,
};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// The audience and the time.
pub(crate) struct Stage {
    colour: bool,
    start: Instant,
    step: u32,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, start: Instant::now(), step: 0 }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) -> Result<()> {
        if let Some(signal) = syscall::interrupted() {
            bail!("interrupted by signal {signal}");
        }
        Ok(writeln!(io::stdout(), "{text}")?)
    }

    /// Opens the next step.
    pub(crate) fn step(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        let seconds = self.start.elapsed().as_secs_f32();
        let title = self.paint(BOLD, &format!("{}. {title}", self.step));
        self.line(&format!("\n{title}  {}", self.paint(DIM, &format!("[{seconds:.1} s]"))))
    }

    /// Says a sentence.
    pub(crate) fn say(&self, text: &str) -> Result<()> {
        self.line(&format!("   {text}"))
    }

    /// Runs a command of the product that ends with `status`, and shows it and what it writes.
    pub(crate) fn run(&self, agent: &Cli, arguments: &[&str], status: i32) -> Result<Output> {
        self.line(&self.paint(CYAN, &format!("   $ sg-agent {}", arguments.join(" "))))?;
        let output = agent.run(arguments)?;
        for line in output.stdout.lines().chain(output.stderr.lines()) {
            self.line(&format!("     {line}"))?;
        }
        output.expect_status(status)
    }

    /// Tries something and holds it against what was promised.
    pub(crate) fn attempt(
        &self,
        from: &Namespace,
        to: &Namespace,
        target: IpAddr,
        probe: Probe,
        passes: bool,
    ) -> Result<()> {
        let outcome = probe.run(from, None, to, target)?;
        let what = match probe {
            Probe::Tcp(port) => format!("connects to {target} port {port}"),
            Probe::Udp(port) => format!("sends UDP to {target} port {port}"),
            Probe::Ping => format!("pings {target}"),
        };
        let text = format!("{:>8} {what:<36} ({})", from.name(), to.name());
        let passed = outcome == Outcome::Answered;
        self.outcome(&text, passed, if passed { "answered" } else { "silence" })?;
        let not = if passes { "" } else { "not " };
        ensure!(passed == passes, "{} {what}: expected it {not}to be answered", from.name());
        Ok(())
    }

    /// Shows a fact that is as promised, or fails.
    pub(crate) fn check(&self, text: &str, passed: bool, promised: bool) -> Result<()> {
        self.outcome(text, passed, if passed { "yes" } else { "no" })?;
        ensure!(passed == promised, "{text}: expected {promised}");
        Ok(())
    }

    fn outcome(&self, text: &str, passed: bool, word: &str) -> Result<()> {
        let word = self.paint(if passed { GREEN } else { RED }, word);
        self.line(&format!("   {text:<64} {word}"))
    }
}
