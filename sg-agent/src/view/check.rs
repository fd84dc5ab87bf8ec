//! The answer of `check`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::document::Diagnostic;

/// What is wrong with a policy, and how large it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Every error; none means that the policy can be applied.
    pub errors: Vec<Finding>,
    /// Every warning.
    pub warnings: Vec<Finding>,
    /// Groups.
    pub groups: usize,
    /// Rules as written.
    pub rules: usize,
    /// Prefixes as written: of lists, members and rules.
    pub prefixes: usize,
    /// Size of the compiled policy with one interface for each entry; 0 where there are errors.
    pub bytes: usize,
    /// Milliseconds that reading took.
    pub read_ms: f64,
    /// Milliseconds that compiling took.
    pub compile_ms: f64,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The nearest right spelling.
    pub suggestion: Option<String>,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            file: diagnostic.position.file.to_string(),
            line: diagnostic.position.line,
            column: diagnostic.position.column,
            message: diagnostic.message.clone(),
            suggestion: diagnostic.suggestion.clone(),
        }
    }
}
