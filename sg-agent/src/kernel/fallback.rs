//! The way back: a state that the programs go by from a moment on, unless that is called off.
//!
//! The one buffer holds the image in force, the other the one to return to. The programs compare the
//! moment in the control element with their clock, so the way back needs no process: neither the
//! agent nor a timer of its own. What has come about is written down as the state by whoever looks
//! next.

use std::time::Duration;

use sg_common::abi::Control;

use super::{Fallback, Kernel, KernelError, clock, grace::Grace, publish, set::Set};
use crate::image::Image;

impl Set {
    /// The state word that the programs go by now.
    pub(super) fn state(&self) -> u64 {
        match self.fallback() {
            Some((word, Duration::ZERO)) => word,
            _ => self.control().state(),
        }
    }

    /// The state word to fall back to, and for how long it is not in force yet.
    fn fallback(&self) -> Option<(u64, Duration)> {
        let (word, at) = self.control().fallback()?;
        let left = match clock::jiffies(&self.clock, self.rate) {
            Ok(now) => clock::duration(at.saturating_sub(now), self.rate),
            Err(error) => {
                tracing::warn!("whether the way back was taken cannot be told: {error}");
                Duration::from_secs(1)
            }
        };
        Some((word, left))
    }

    /// The control element for a larger image map, into whose buffers the images are copied.
    pub(super) fn moved(&self, to: &Self) -> Result<Control, KernelError> {
        let control = Control { buffer_nodes: to.buffer_nodes(), ..self.control().load() };
        // Asked once: the moment may come while the images are copied.
        let (state, planned) = match self.fallback() {
            None => (control.state, None),
            Some((word, Duration::ZERO)) => (word, None),
            Some((word, _)) => (control.state, Some(word)),
        };
        if state == 0 {
            return Ok(control);
        }
        publish::write(to, 0, &self.nodes_of(state)?)?;
        let moved = Control { state: Control::state_of(Control::generation(state), 0), ..control };
        match planned {
            None => Ok(Control { fallback_at: Control::NEVER, ..moved }),
            Some(word) if word == state => Ok(Control { fallback: moved.state, ..moved }),
            Some(word) => {
                publish::write(to, 1, &self.nodes_of(word)?)?;
                Ok(Control { fallback: Control::state_of(Control::generation(word), 1), ..moved })
            }
        }
    }
}

impl Kernel {
    /// See [`Kernel::fallback`].
    pub(super) fn planned_fallback(&self) -> Option<Fallback> {
        let (word, left) = self.set.fallback()?;
        Some(Fallback { generation: Control::generation(word), left })
    }

    /// See [`Kernel::fall_back_after`].
    pub(super) fn plan_fallback(&mut self, after: Duration) -> Result<(), KernelError> {
        self.settle();
        let state = self.set.control().state();
        if state == 0 {
            return Err(KernelError::NothingPublished);
        }
        let at = self.moment(after)?;
        self.set.control().fall_back(state, at);
        Ok(())
    }

    /// See [`Kernel::fall_back_to`].
    pub(super) fn plan_fallback_to(
        &mut self,
        image: &Image,
        generation: u64,
        rules: u32,
        after: Duration,
    ) -> Result<(), KernelError> {
        let at = self.moment(after)?;
        image.verify().map_err(|cause| KernelError::Image { which: "former", cause })?;
        let buffer = self.idle_buffer(image, rules)?;
        publish::write(&self.set, buffer, image.nodes())?;
        self.set.basis.raise(generation)?;
        self.set.control().fall_back(Control::state_of(generation, buffer), at);
        Ok(())
    }

    /// See [`Kernel::stay`].
    pub(super) fn call_fallback_off(&mut self) -> bool {
        if self.settle() {
            return false;
        }
        self.set.control().stay();
        // The moment may have come between the two: a program that has seen it reads the other buffer.
        self.readers = Grace::Due;
        true
    }

    /// See [`Kernel::go_back`].
    pub(super) fn take_fallback(&mut self) {
        if let Some((word, _)) = self.set.fallback() {
            self.set.control().flip(word);
            self.set.control().stay();
            self.readers = Grace::Due;
        }
    }

    /// Has what came about stand in the state word. Tells whether there was such a thing.
    pub(super) fn settle(&mut self) -> bool {
        let Some((word, Duration::ZERO)) = self.set.fallback() else { return false };
        self.set.control().flip(word);
        self.set.control().stay();
        self.readers = Grace::Due;
        true
    }

    /// Makes room for an image, and gives a buffer that no program reads, nor will.
    pub(super) fn idle_buffer(&mut self, image: &Image, rules: u32) -> Result<u32, KernelError> {
        self.fit(image.nodes().len(), image.header().zone_count, rules)?;
        // Afterwards: making room takes its time, and the moment may come meanwhile.
        self.settle();
        let control = self.set.control();
        let buffer = 1 - Control::buffer(control.state());
        if control.fallback().is_some_and(|(word, _)| Control::buffer(word) == buffer) {
            control.stay();
            // A program may have seen the moment come just now.
            self.readers = Grace::Due;
        }
        // Programs that began before the last flip may still read the buffer.
        self.readers.wait();
        Ok(buffer)
    }

    fn moment(&self, after: Duration) -> Result<u64, KernelError> {
        let now = clock::jiffies(&self.set.clock, self.set.rate)?;
        Ok(now.saturating_add(clock::jiffies_in(after, self.set.rate)).min(Control::NEVER - 1))
    }
}
