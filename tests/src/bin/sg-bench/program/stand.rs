//! Where a case is measured: the shipped programs with a policy in force, called by the generator; and
//! an empty program that the same generator calls, whose cost is taken off.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use sg_common::{abi::counter_slot, flow::SLOTS, tuple::Direction};
use sg_tests::{
    generator::Generator,
    programs::{Programs, Sizes},
    syscall::{assembly::Code, handmade::Program},
};

use super::cases::{Case, Kind};

/// As many flows fit into an agent's table where nobody says otherwise.
const FLOWS: u32 = 1 << 18;
/// New flows, in all rounds together.
const NEW_FLOWS: u32 = 1 << 20;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The program that answers at once.
    Empty,
    /// The shipped one.
    Shipped,
}

/// Loaded programs, a policy, and packets.
pub(crate) struct Stand {
    case: Case,
    programs: Programs,
    /// What calls each [`Subject`]: to have one call the other would make each round wait for the kernel.
    generators: [Generator; 2],
    start: u32,
    repeat: u32,
}

impl Stand {
    /// Loads everything, and opens the flows. A round has `repeat` packets, or as many as there are flows.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub(crate) fn new(case: Case, repeat: u32) -> Result<Self> {
        let image = case.image()?;
        let nodes = u32::try_from(image.nodes().len())?;
        // Twice as many as there are: no bucket is full.
        let flows = match case.kind {
            Kind::Established(flows) => FLOWS.max((2 * flows).next_power_of_two()),
            Kind::New => 2 * NEW_FLOWS,
            Kind::Denied | Kind::DeniedPort | Kind::Untracked => FLOWS,
        };
        let sizes = Sizes { nodes, buckets: flows / SLOTS, rules: case.rules + 1 };
        let mut programs = Programs::load(sg_agent::kernel::object(), sizes)?;
        programs.publish(&image, 1)?;
        let empty = Program::load(case.hook, &Code::default().ending(case.answer().cast_signed()))?;
        let shipped = programs.descriptor(case.program())?;
        let caller = |judge| Generator::caller(&case.packet(), case.hook, judge);
        let generators = [caller(empty.as_fd())?, caller(shipped)?];
        let repeat = match case.kind {
            Kind::Established(flows) => repeat.max(flows),
            Kind::New => repeat.min(1 << 16),
            Kind::Denied | Kind::DeniedPort | Kind::Untracked => repeat,
        };
        let mut stand = Self { case, programs, generators, start: 0, repeat };
        if let Kind::Established(flows) = case.kind {
            let [_, shipped] = &stand.generators;
            shipped.choose(case.sources(), 0);
            shipped.judge(flows)?;
        }
        // What is cold in the first round is not what is measured.
        let before = stand.counted()?;
        stand.round(Subject::Shipped)?;
        let counted = stand.counted()? - before;
        ensure!(
            counted == u64::from(repeat),
            "{}: of {repeat} packets {counted} were judged so",
            case.title()
        );
        Ok(stand)
    }

    /// Packets that were judged as the case says, and for the reason that it means.
    fn counted(&mut self) -> Result<u64> {
        self.programs.counted(Direction::Inbound, counter_slot(self.case.verdict(), false))
    }

    /// The mean time of a packet, in nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses, or the packets are not judged as the case says.
    pub(crate) fn round(&mut self, subject: Subject) -> Result<f64> {
        crate::go_on()?;
        let generator = &self.generators[subject as usize];
        generator.choose(self.case.sources(), self.start);
        let (answer, mean) = generator.judge(self.repeat).with_context(|| self.case.title())?;
        ensure!(
            answer == self.case.answer(),
            "{}: the program answers {answer}, not {}",
            self.case.title(),
            self.case.answer()
        );
        // Where each packet opens a flow, the next round goes on with others.
        if self.case.kind == Kind::New && subject == Subject::Shipped {
            self.start = self.start.wrapping_add(self.repeat);
        }
        Ok(mean)
    }
}
