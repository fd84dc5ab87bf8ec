//! What reading a policy may cost at most. Every limit bounds time and memory; none bounds how
//! many rules a policy may hold.

/// Bounds on what is read. A policy that passes one is refused with the limit in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all documents and list files together.
    pub bytes: usize,
    /// Bytes of one document. Long lists belong into list files, many groups into several
    /// documents.
    pub document_bytes: usize,
    /// Values, keys included, in one document, those that aliases repeat counted each time.
    pub nodes: usize,
    /// Values that the aliases of one document may repeat.
    pub aliased_nodes: usize,
    /// How deep values may be nested.
    pub depth: usize,
    /// Errors that are kept, and warnings that are kept; further ones are only counted.
    pub diagnostics: usize,
    /// Comparisons that the search for covered rules and interface entries may take.
    pub comparisons: usize,
}

impl Limits {
    /// What holds where nobody asks for something else.
    pub const DEFAULT: Self = Self {
        bytes: 256 << 20,
        document_bytes: 16 << 20,
        nodes: 1 << 20,
        aliased_nodes: 1 << 18,
        depth: 32,
        diagnostics: 1000,
        comparisons: 20_000_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
