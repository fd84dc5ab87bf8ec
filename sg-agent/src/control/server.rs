//! Takes requests and hands them to the event loop.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State, rejection::JsonRejection, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::UnixListener,
    sync::{mpsc::Sender, oneshot},
    task::JoinHandle,
};
use tracing::{error, warn};
use utoipa::IntoParams;

use super::{Ask, AskAudited, Detach, Refusal, Rollback, openapi, path};
use crate::{
    agent::{Event, Reply, Terms, own::Connection},
    document::Limits,
    failure::{Exit, Failure},
    render,
    state::Submission,
    view::Grouping,
};

/// Why requests cannot be taken.
enum Unbound {
    /// Another agent takes them.
    Taken(Failure),
    /// The socket cannot be made: its folder is missing, full or read-only.
    Unreachable(Failure),
}

/// How long after a failed attempt the socket is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Bytes of the largest request: in JSON each quote and each end of a line takes two, and no other character of a
/// valid document takes more. Names and the rest are in what is added.
const LARGEST_BODY: usize = 2 * Limits::DEFAULT.bytes + (1 << 20);

/// Binds the socket; `None` where that cannot be done now and is to be tried again. Nobody can ask then,
/// and what is to be enforced is.
///
/// # Errors
///
/// Another agent answers there.
pub fn listen(socket: &Path) -> Result<Option<UnixListener>, Failure> {
    match bind(socket) {
        Ok(listener) => Ok(Some(listener)),
        Err(Unbound::Taken(failure)) => Err(failure),
        Err(Unbound::Unreachable(failure)) => {
            error!("{failure}; it is tried again");
            Ok(None)
        }
    }
}

/// Binds the socket, for root and its group. One that an agent left behind is replaced.
fn bind(socket: &Path) -> Result<UnixListener, Unbound> {
    let what = format!("listen on {}", socket.display());
    if UnixStream::connect(socket).is_ok() {
        return Err(Unbound::Taken(
            Failure::new(Exit::Failed, what, "another agent answers there")
                .with_remedy("stop it, or give this one a --socket of its own"),
        ));
    }
    let failed = |error| Unbound::Unreachable(Failure::io(what.clone(), &error));
    if fs::symlink_metadata(socket).is_ok_and(|found| found.is_file()) {
        return Err(failed(io::Error::other("a file is there, and no socket")));
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Serves requests until the task is aborted; without a listener from when the socket can be bound.
pub fn serve(socket: PathBuf, listener: Option<UnixListener>, events: Sender<Event>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut bound = listener;
        let listener = loop {
            if let Some(listener) = bound {
                break listener;
            }
            tokio::time::sleep(RETRY).await;
            bound = bind(&socket).ok();
        };
        if let Err(error) = axum::serve(listener, router(events)).await {
            error!("requests are not served any more: {error}");
        }
    })
}

fn router(events: Sender<Event>) -> Router {
    Router::new()
        .route(path::STATUS, get(status))
        .route(path::COUNTERS, get(counters))
        .route(path::METRICS, get(metrics))
        .route(path::APPLY, post(apply))
        .route(path::PLAN, post(plan))
        .route(path::AUDITED, post(audited))
        .route(path::CONFIRM, post(confirm))
        .route(path::ROLLBACK, post(rollback))
        .route(path::HISTORY, get(history))
        .route(path::RELOAD, post(reload))
        .route(path::DETACH, post(detach))
        .route(path::OPENAPI, get(|| async { Json(openapi::document()) }))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(events)
}

/// What `counters` may be asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CountersQuery {
    /// What to group by; `interface` where it is left out.
    #[serde(default)]
    by: Grouping,
    /// One interface only.
    interface: Option<String>,
}

#[utoipa::path(get, path = path::STATUS, responses(
    (status = 200, description = "The agent, what is in force, and on what", body = crate::view::Status),
    (status = "default", description = "Refused", body = Refusal),
))]
pub(super) async fn status(State(events): State<Sender<Event>>) -> Response {
    ask(&events, Event::Status).await
}

#[utoipa::path(get, path = path::COUNTERS, params(CountersQuery), responses(
    (status = 200, description = "The counters in the grouping asked for", body = crate::view::Counters),
    (status = "default", description = "Refused", body = Refusal),
))]
pub(super) async fn counters(
    State(events): State<Sender<Event>>,
    query: Result<Query<CountersQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(CountersQuery { by, interface })) => {
            ask(&events, |reply| Event::Counters(by, interface, reply)).await
        }
        Err(rejection) => refuse(Failure::new(Exit::Invalid, "read the request", rejection.body_text())),
    }
}

#[utoipa::path(get, path = path::METRICS, responses(
    (status = 200, description = "What status and counters tell, in the text format of Prometheus", body = String,
        content_type = "text/plain"),
    (status = "default", description = "Refused", body = Refusal),
))]
pub(super) async fn metrics(State(events): State<Sender<Event>>) -> Response {
    match answer(&events, Event::Metrics).await {
        Ok(text) => ([(header::CONTENT_TYPE, render::CONTENT_TYPE)], text).into_response(),
        Err(failure) => refuse(failure),
    }
}

/// The terms that `apply` may set.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// Seconds until the former policy comes back, unless this one is confirmed before.
    confirm_within: Option<u64>,
    /// The asker's own connection, which must not be cut: as in `SSH_CONNECTION`, the client's address
    /// and port, and the server's.
    connection: Option<String>,
    /// The name of whoever asks, for `history`.
    author: Option<String>,
}

impl ApplyQuery {
    fn terms(self) -> Result<Terms, Failure> {
        let own = connection(self.connection)?;
        let confirm_within = self.confirm_within.map(|seconds| {
            if CONFIRM_SECONDS.contains(&seconds) {
                return Ok(Duration::from_secs(seconds));
            }
            let (least, most) = (CONFIRM_SECONDS.start(), CONFIRM_SECONDS.end());
            let why =
                format!("a policy can wait for its confirmation from {least} to {most} s, not {seconds} s");
            Err(Failure::new(Exit::Invalid, "read the request", why))
        });
        Ok(Terms { author: author(self.author), confirm_within: confirm_within.transpose()?, own })
    }
}

/// A connection as `SSH_CONNECTION` tells it.
fn connection(text: Option<String>) -> Result<Option<Connection>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match Connection::read(&text) {
        Some(connection) => Ok(Some(connection)),
        None => Err(unreadable(&format!("`{text}` is no connection"))),
    }
}

/// How long a policy may wait for its confirmation: time to look, and no longer than a day.
pub const CONFIRM_SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;

/// A name as it is kept: the socket is root's, so that root it is if nobody says otherwise.
fn author(given: Option<String>) -> String {
    const LONGEST: usize = 64;
    let given = given.unwrap_or_default();
    let name: String = given.chars().filter(|character| !character.is_control()).take(LONGEST).collect();
    if name.is_empty() { "root".to_owned() } else { name }
}

#[utoipa::path(post, path = path::APPLY, params(ApplyQuery), request_body = Submission, responses(
    (status = 200, description = "The policy is in force", body = crate::view::Applied),
    (status = 422, description = "The policy is not valid; nothing was changed", body = Refusal),
    (status = "default", description = "Refused; nothing was changed", body = Refusal),
))]
pub(super) async fn apply(
    State(events): State<Sender<Event>>,
    query: Result<Query<ApplyQuery>, QueryRejection>,
    body: Result<Json<Submission>, JsonRejection>,
) -> Response {
    let terms = query.map_err(|rejection| unreadable(&rejection.body_text()));
    let terms = terms.and_then(|Query(query)| query.terms());
    match (terms, body) {
        (Ok(terms), Ok(Json(submission))) => {
            ask(&events, |reply| Event::Apply(submission, terms, reply)).await
        }
        (Err(failure), _) => refuse(failure),
        (_, Err(rejection)) => refuse(unreadable(&rejection.body_text())),
    }
}

#[utoipa::path(post, path = path::PLAN, request_body = Submission, responses(
    (status = 200, description = "What applying the policy would change", body = crate::view::Plan),
    (status = 422, description = "The policy is not valid, or does not fit", body = Refusal),
    (status = "default", description = "Refused", body = Refusal),
))]
pub(super) async fn plan(
    State(events): State<Sender<Event>>,
    body: Result<Json<Submission>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(submission)) => ask(&events, |reply| Event::Plan(submission, reply)).await,
        Err(rejection) => refuse(Failure::new(Exit::Invalid, "read the request", rejection.body_text())),
    }
}

#[utoipa::path(post, path = path::AUDITED, request_body = AskAudited, responses(
    (status = 200, description = "What the traffic seen under audit would lose", body = crate::view::Audited),
    (status = 422, description = "The policy is not valid, or does not fit", body = Refusal),
    (status = "default", description = "Refused", body = Refusal),
))]
pub(super) async fn audited(
    State(events): State<Sender<Event>>,
    body: Result<Json<AskAudited>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(AskAudited { policy })) => ask(&events, |reply| Event::Audited(policy, reply)).await,
        Err(rejection) => refuse(unreadable(&rejection.body_text())),
    }
}

#[utoipa::path(post, path = path::CONFIRM, request_body = Ask, responses(
    (status = 200, description = "The policy on trial stays in force", body = crate::view::Applied),
    (status = "default", description = "Refused: none is on trial, or it is too late", body = Refusal),
))]
pub(super) async fn confirm(
    State(events): State<Sender<Event>>,
    body: Result<Json<Ask>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(Ask { author: name })) => ask(&events, |reply| Event::Confirm(author(name), reply)).await,
        Err(rejection) => refuse(unreadable(&rejection.body_text())),
    }
}

#[utoipa::path(post, path = path::ROLLBACK, request_body = Rollback, responses(
    (status = 200, description = "The older policy is in force", body = crate::view::Applied),
    (status = "default", description = "Refused; nothing was changed", body = Refusal),
))]
pub(super) async fn rollback(
    State(events): State<Sender<Event>>,
    body: Result<Json<Rollback>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(Rollback { generation, connection: own, author: name })) => match connection(own) {
            Ok(own) => {
                let terms = Terms { author: author(name), confirm_within: None, own };
                ask(&events, |reply| Event::Rollback(generation, terms, reply)).await
            }
            Err(failure) => refuse(failure),
        },
        Err(rejection) => refuse(unreadable(&rejection.body_text())),
    }
}

#[utoipa::path(get, path = path::HISTORY, responses(
    (status = 200, description = "The generations that are kept", body = crate::view::History),
    (status = "default", description = "Refused", body = Refusal),
))]
pub(super) async fn history(State(events): State<Sender<Event>>) -> Response {
    ask(&events, Event::History).await
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Exit::Invalid, "read the request", why)
}

#[utoipa::path(post, path = path::RELOAD, responses(
    (status = 200, description = "The policy was read again and is in force", body = crate::view::Applied),
    (status = "default", description = "Refused; nothing was changed", body = Refusal),
))]
pub(super) async fn reload(State(events): State<Sender<Event>>) -> Response {
    ask(&events, |reply| Event::Reload(Some(reply))).await
}

#[utoipa::path(post, path = path::DETACH, request_body = Detach, responses(
    (status = 200, description = "What is not enforced any more, until the next policy", body = crate::view::Detached),
    (status = "default", description = "Refused, or not all could be removed", body = Refusal),
))]
pub(super) async fn detach(
    State(events): State<Sender<Event>>,
    body: Result<Json<Detach>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(Detach { interface })) => ask(&events, |reply| Event::Detach(interface, reply)).await,
        Err(rejection) => refuse(Failure::new(Exit::Invalid, "read the request", rejection.body_text())),
    }
}

async fn unknown() -> Response {
    let failure = Failure::new(Exit::Invalid, "read the request", "there is no such path or method")
        .with_remedy(format!("see {}", path::OPENAPI));
    (StatusCode::NOT_FOUND, Json(Refusal { error: failure })).into_response()
}

async fn ask<T: Serialize>(events: &Sender<Event>, event: impl FnOnce(Reply<T>) -> Event) -> Response {
    match answer(events, event).await {
        Ok(view) => Json(view).into_response(),
        Err(failure) => refuse(failure),
    }
}

/// What the event loop answers.
async fn answer<T>(events: &Sender<Event>, event: impl FnOnce(Reply<T>) -> Event) -> Result<T, Failure> {
    let (reply, answer) = oneshot::channel();
    let sent = events.send(event(reply)).await.is_ok();
    match answer.await {
        Ok(answer) if sent || answer.is_err() => answer,
        Ok(_) | Err(_) => Err(Failure::new(Exit::NotRunning, "answer", "the agent is stopping")),
    }
}

fn refuse(failure: Failure) -> Response {
    let status = match failure.exit {
        Exit::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Exit::Permission => StatusCode::FORBIDDEN,
        Exit::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Exit::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
        Exit::Done | Exit::Failed | Exit::Denied => StatusCode::INTERNAL_SERVER_ERROR,
    };
    warn!("refused: {failure}");
    (status, Json(Refusal { error: failure })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Text;

    #[test]
    fn whatever_may_be_read_may_be_sent() {
        for line in ["::1\n", "\"\":\"\",\n", "\\\t\r\n"] {
            let text = line.repeat((1 << 20) / line.len());
            let read = text.len();
            let text = Text { name: "p.yaml".to_owned(), text };
            let sent =
                serde_json::to_vec(&Submission { documents: vec![text], files: vec![] }).unwrap().len();
            let most = Limits::default().bytes.div_ceil(read);
            assert!(most * sent <= LARGEST_BODY, "{line:?}: {most} times {sent}");
        }
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_a_file_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(bind(&path).ok().unwrap());
        assert!(path.exists());
        let listener = bind(&path).ok().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(bind(&path), Err(Unbound::Taken(_))));
        drop(listener);
        let file = folder.path().join("policy.yaml");
        fs::write(&file, "version: 1").unwrap();
        let Err(Unbound::Unreachable(failure)) = bind(&file) else { panic!("it was replaced") };
        assert!(failure.to_string().contains("a file is there"), "{failure}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "version: 1");
    }
}
