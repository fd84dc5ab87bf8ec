//! The reference answer: slow, obvious, and what the compiled image is tested against.
