//! Who sits at the terminal, and by which connection.

use std::{env, fs};

use super::tell;
use crate::{agent::own::Connection, kernel};

/// The most processes between a login and a command.
const DEPTH: usize = 64;

/// The name for `history`: of the user behind `sudo`, else the login's.
pub(super) fn author() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "root".to_owned())
}

/// The connection by which the operator has come, if it is one that `sshd` told of. `sudo` drops the
/// variable, so processes above are asked too. One that is over is not the operator's any more: that is
/// told, for whoever sits there now is not looked after.
pub(super) fn connection() -> Option<Connection> {
    let given = env::var("SSH_CONNECTION").ok();
    let told = given.as_deref().map_or_else(of_ancestors, Connection::read)?;
    // What cannot be told is believed: a refusal can be overruled.
    let is_there = kernel::sockets().map_or(true, |sockets| sockets.iter().any(|socket| told.is(socket)));
    if !is_there {
        tell(&format!(
            "SSH_CONNECTION names a connection from {} to {}, and there is none (a terminal that was taken over from \
             an earlier login?): your own connection is not looked after; --confirm-within is",
            told.client, told.server
        ));
    }
    is_there.then_some(told)
}

fn of_ancestors() -> Option<Connection> {
    let mut process = parent("self")?;
    for _ in 0..DEPTH {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        if let Some(found) = variable(&environment) {
            return Connection::read(&found);
        }
        process = parent(&process)?;
    }
    None
}

/// The parent of a process; the first one has none.
fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    (parent != "0").then(|| parent.to_owned())
}

/// `SSH_CONNECTION` of an environment as the kernel shows it.
fn variable(environment: &[u8]) -> Option<String> {
    let found = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="));
    found.map(|value| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_found_among_others() {
        assert_eq!(variable(b"A=1\0SSH_CONNECTION=a 1 b 2\0B=2\0"), Some("a 1 b 2".to_owned()));
        assert_eq!(variable(b"XSSH_CONNECTION=a\0"), None);
    }

    #[test]
    fn the_first_process_has_no_parent() {
        assert_eq!(parent("1"), None);
        assert_eq!(parent("self"), Some(std::os::unix::process::parent_id().to_string()));
    }
}
