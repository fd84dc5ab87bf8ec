//! The hooks that a packet comes by, told by program.

/// A program that a packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `sg_xdp`.
    Xdp,
    /// `sg_tc_ingress`.
    TcIngress,
    /// `sg_tc_egress`.
    TcEgress,
}

impl Entry {
    /// The program's name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "sg_xdp",
            Self::TcIngress => "sg_tc_ingress",
            Self::TcEgress => "sg_tc_egress",
        }
    }

    /// Whether the program's answer lets the packet pass.
    #[must_use]
    pub const fn passes(self, answer: u32) -> bool {
        const XDP_PASS: u32 = 2;
        const TC_NEXT: u32 = u32::MAX;
        match self {
            Self::Xdp => answer == XDP_PASS,
            Self::TcIngress | Self::TcEgress => answer == TC_NEXT,
        }
    }
}
