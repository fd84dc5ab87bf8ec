//! The description of the interface, as `docs/openapi.json` holds it.

use utoipa::OpenApi;

use super::{Ask, AskAudited, Detach, Refusal, Rollback, server};
use crate::{failure, state, view};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sg-agent",
        description = "Requests to the agent, over HTTP on its unix socket. Field names are stable."
    ),
    paths(
        server::status,
        server::counters,
        server::metrics,
        server::apply,
        server::plan,
        server::audited,
        server::confirm,
        server::rollback,
        server::history,
        server::reload,
        server::detach
    ),
    components(schemas(
        Ask,
        AskAudited,
        Detach,
        Refusal,
        Rollback,
        failure::Failure,
        state::Submission,
        view::Status,
        view::Counters,
        view::Applied,
        view::Plan,
        view::Audited,
        view::Detached,
        view::History,
    ))
)]
struct Description;

/// The description.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    /// `SG_WRITE_OPENAPI=1 cargo test -p sg-agent openapi` writes the file anew.
    #[test]
    fn the_committed_description_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let mut current = serde_json::to_string_pretty(&super::document()).unwrap();
        current.push('\n');
        if env::var_os("SG_WRITE_OPENAPI").is_some() {
            fs::write(&path, &current).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap();
        assert!(
            committed == current,
            "docs/openapi.json is out of date: SG_WRITE_OPENAPI=1 cargo test -p sg-agent openapi"
        );
    }

    #[test]
    fn every_route_is_described() {
        let description = serde_json::to_value(super::document()).unwrap();
        use crate::control::path::{
            APPLY, AUDITED, CONFIRM, COUNTERS, DETACH, HISTORY, METRICS, PLAN, RELOAD, ROLLBACK, STATUS,
        };
        for (path, method) in [
            (STATUS, "get"),
            (COUNTERS, "get"),
            (METRICS, "get"),
            (APPLY, "post"),
            (PLAN, "post"),
            (AUDITED, "post"),
            (CONFIRM, "post"),
            (ROLLBACK, "post"),
            (HISTORY, "get"),
            (RELOAD, "post"),
            (DETACH, "post"),
        ] {
            assert!(description["paths"][path][method].is_object(), "{method} {path}");
        }
    }
}
