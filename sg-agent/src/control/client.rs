//! Asks the daemon.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::{Ask, AskAudited, Detach, Refusal, Rollback, path};
use crate::{
    agent::Terms,
    failure::{Exit, Failure},
    state::Submission,
    view::{Applied, Audited, Detached, History, Plan, Status},
};

/// How long a daemon that does not answer is waited for. A large policy takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The daemon behind a socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

impl Client {
    /// The daemon behind `socket`, running or not.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), patience: PATIENCE }
    }

    /// The same, waited for no longer than this.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How things are.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or refuses.
    pub fn status(&self) -> Result<Status, Failure> {
        self.request::<(), _>("ask for the status", Method::GET, path::STATUS, None)
    }

    /// What both tell, as text for a monitoring system.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or refuses.
    pub fn metrics(&self) -> Result<String, Failure> {
        const WHAT: &str = "ask for the metrics";
        let text = self.send::<()>(WHAT, Method::GET, path::METRICS, None)?;
        String::from_utf8(text.into()).map_err(|error| Failure::new(Exit::Failed, WHAT, error))
    }

    /// Puts a policy in force.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or refuses: then nothing has changed.
    pub fn apply(&self, submission: &Submission, terms: &Terms) -> Result<Applied, Failure> {
        let mut path = format!("{}?author={}", path::APPLY, escaped(&terms.author));
        if let Some(within) = terms.confirm_within {
            path += &format!("&confirm_within={}", within.as_secs());
        }
        if let Some(own) = terms.own {
            path += &format!("&connection={}", escaped(&own.written()));
        }
        self.request("apply the policy", Method::POST, &path, Some(submission))
    }

    /// Has the policy read again that the daemon was started with, and put in force.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or refuses: then nothing has changed.
    pub fn reload(&self) -> Result<Applied, Failure> {
        self.request::<(), _>("reload the policy", Method::POST, path::RELOAD, None)
    }

    /// Keeps the policy that waits for it.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or none waits, or it is too late.
    pub fn confirm(&self, author: String) -> Result<Applied, Failure> {
        self.request("confirm the policy", Method::POST, path::CONFIRM, Some(&Ask { author: Some(author) }))
    }

    /// Puts an older policy in force.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or refuses: then nothing has changed.
    pub fn rollback(&self, generation: Option<u64>, terms: Terms) -> Result<Applied, Failure> {
        let connection = terms.own.map(|own| own.written());
        let wanted = Rollback { generation, connection, author: Some(terms.author) };
        self.request("roll back", Method::POST, path::ROLLBACK, Some(&wanted))
    }

    /// Which generations there were.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or refuses.
    pub fn history(&self) -> Result<History, Failure> {
        self.request::<(), _>("ask for the history", Method::GET, path::HISTORY, None)
    }

    /// What putting a policy in force would change.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or would refuse the policy.
    pub fn plan(&self, submission: &Submission) -> Result<Plan, Failure> {
        self.request("plan the policy", Method::POST, path::PLAN, Some(submission))
    }

    /// What the traffic seen under audit would lose if a policy, or the one in force, were enforced.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or would refuse the policy.
    pub fn audited(&self, policy: Option<Submission>) -> Result<Audited, Failure> {
        self.request("plan what was audited", Method::POST, path::AUDITED, Some(&AskAudited { policy }))
    }

    /// Ends enforcement on one interface, or all, until the next policy.
    ///
    /// # Errors
    ///
    /// The daemon is not running, or something could not be removed.
    pub fn detach(&self, interface: Option<String>) -> Result<Detached, Failure> {
        self.request("detach", Method::POST, path::DETACH, Some(&Detach { interface }))
    }

    fn request<B: Serialize, T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        let bytes = self.send(what, method, path, body)?;
        serde_json::from_slice(&bytes).map_err(|error| unreadable(what, error))
    }

    /// The body of a good answer.
    fn send<B: Serialize>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Bytes, Failure> {
        let body = match body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|error| Failure::new(Exit::Failed, format!("{what}: write the request"), error))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "sg-agent")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::new(Exit::Failed, format!("{what}: write the request"), error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::io(what, &error))?;
        let exchange = async {
            timeout(self.patience, exchange(&self.socket, what, request)).await.unwrap_or_else(|_| {
                let why = format!("the agent has not answered for {} s", self.patience.as_secs());
                Err(Failure::new(Exit::Failed, what, why))
            })
        };
        let (is_success, bytes) = runtime.block_on(exchange)?;
        if is_success {
            Ok(bytes)
        } else {
            Err(serde_json::from_slice::<Refusal>(&bytes).map_err(|error| unreadable(what, error))?.error)
        }
    }
}

fn unreadable(what: &str, error: serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: read the answer"), error)
}

/// A text as it stands in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Whether the answer is good, and the answer.
async fn exchange(
    socket: &Path,
    what: &str,
    request: Request<Full<Bytes>>,
) -> Result<(bool, Bytes), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, what, &error))?;
    let broken = |error: hyper::Error| {
        Failure::new(Exit::Failed, what, format!("the connection to the agent broke: {error}"))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer, or with an error that the request tells of too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let is_success = response.status().is_success();
    let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
    Ok((is_success, bytes))
}

fn unreachable(socket: &Path, what: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(Exit::NotRunning, what, format!("no agent answers at {}", socket.display()))
                .with_remedy("start it with `sg-agent run`, or name its --socket")
        }
        _ => Failure::io(format!("{what}: connect to {}", socket.display()), error),
    }
}
