//! `flows`: lists the flow table.

use clap::{Args, builder::PossibleValuesParser};
use sg_common::flow::FlowState;

use super::{Error, Global};
use crate::failure::Exit;

/// Words of `flows`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One interface only
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Flows in one state only
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES.map(FlowState::name)))]
    state: Option<String>,
}

const STATES: [FlowState; 12] = [
    FlowState::Opening,
    FlowState::Answered,
    FlowState::Established,
    FlowState::FinOpener,
    FlowState::FinReplier,
    FlowState::Closing,
    FlowState::UdpOneWay,
    FlowState::UdpExchange,
    FlowState::UdpStream,
    FlowState::Icmp,
    FlowState::Other,
    FlowState::Revoked,
];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let enforced = global.enforced("list the flows")?;
    global.print(&enforced.flows(arguments.interface.as_deref(), arguments.state.as_deref())?)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_asked_for() {
        // Two states are one to people: what has ended, for TCP and for the rest.
        let mut names: Vec<_> =
            (0..=u8::MAX).filter_map(FlowState::from_number).map(FlowState::name).collect();
        names.dedup();
        assert_eq!(names, STATES.map(FlowState::name));
    }
}
