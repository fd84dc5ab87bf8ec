//! The agent's own settings: `agent.toml`, read and validated.
//!
//! What is enforced is the policy's business, never this file's. Paths of the socket, the state
//! folder and the pins are options and variables of the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error as _};
use sg_common::flow::Timeout;

/// Where the file is looked for when nobody names one.
pub const DEFAULT_PATH: &str = "/etc/sg-agent/agent.toml";

/// Every setting. All have defaults; an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The policy: a document or a folder of documents.
    pub policy: Option<PathBuf>,
    /// Whether changes of the policy's files are followed.
    pub watch: bool,
    /// What is logged to standard error.
    pub log: LogLevel,
    /// What happens to live flows when the policy changes.
    pub on_change: OnChange,
    /// The flow table.
    pub flows: Flows,
    /// Idle timeouts of flows.
    pub timeouts: Timeouts,
    /// Initial sizes of maps. All but the event ring grow by themselves.
    pub sizes: Sizes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: None,
            watch: true,
            log: LogLevel::Info,
            on_change: OnChange::Revalidate,
            flows: Flows::default(),
            timeouts: Timeouts::default(),
            sizes: Sizes::default(),
        }
    }
}

/// How much the agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And what may need attention.
    Warn,
    /// And what changed.
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// The name, which is also the log filter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What happens to live flows when the policy changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// Flows that the new rules do not allow end at their next packet.
    Revalidate,
    /// Tracked flows live on, as on AWS.
    Keep,
}

/// The flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flows {
    /// How many flows fit; rounded up to a power of two. A flow takes 130 bytes.
    #[serde(deserialize_with = "capacity")]
    pub capacity: u32,
}

impl Default for Flows {
    fn default() -> Self {
        Self { capacity: 1 << 18 }
    }
}

fn capacity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "flows.capacity", 1024, 1 << 26)
}

/// Idle timeouts in seconds, by [`Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts(pub [u32; Timeout::ALL.len()]);

impl Default for Timeouts {
    fn default() -> Self {
        Self(Timeout::ALL.map(Timeout::default_seconds))
    }
}

impl Timeouts {
    /// Seconds by the place of each [`Timeout`].
    #[must_use]
    pub const fn seconds(self) -> [u32; 8] {
        self.0
    }

    /// The fewest and the most seconds that a timeout may have.
    const fn range(timeout: Timeout) -> (u32, u32) {
        match timeout {
            Timeout::TcpEstablished => (60, 432_000),
            Timeout::TcpOpening
            | Timeout::TcpClosing
            | Timeout::Udp
            | Timeout::UdpStream
            | Timeout::Icmp
            | Timeout::Other => (1, 432_000),
            // No longer than receivers keep what is incomplete, twice over.
            Timeout::Fragment => (1, 120),
        }
    }
}

impl<'de> Deserialize<'de> for Timeouts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Timeouts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of timeouts in seconds")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Timeouts, A::Error> {
                let mut timeouts = Timeouts::default();
                while let Some(name) = map.next_key::<String>()? {
                    let Some(timeout) = Timeout::ALL.into_iter().find(|known| known.name() == name) else {
                        let known = Timeout::ALL.map(Timeout::name).join(", ");
                        return Err(A::Error::custom(format!(
                            "unknown timeout `{name}`, expected one of {known}"
                        )));
                    };
                    let seconds = map.next_value::<i64>()?;
                    let (least, most) = Timeouts::range(timeout);
                    timeouts.0[timeout as usize] =
                        checked(seconds, &format!("timeouts.{name}"), least, most)?;
                }
                Ok(timeouts)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Initial sizes of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sizes {
    /// Attached interfaces. Each takes 2 KiB a CPU.
    #[serde(deserialize_with = "zones")]
    pub zones: u32,
    /// Rules. Each takes 32 bytes a CPU.
    #[serde(deserialize_with = "rules")]
    pub rules: u32,
    /// Nodes of the compiled policy. Each takes 128 bytes, in two buffers.
    #[serde(deserialize_with = "image_nodes")]
    pub image_nodes: u32,
    /// The ring of drop events, in bytes: a power of two.
    #[serde(deserialize_with = "events_bytes")]
    pub events_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { zones: 256, rules: 1 << 13, image_nodes: 1 << 16, events_bytes: 1 << 20 }
    }
}

fn zones<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "sizes.zones", 1, 1 << 16)
}

fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "sizes.rules", 1, 1 << 24)
}

fn image_nodes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "sizes.image_nodes", 64, 1 << 26)
}

fn events_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bytes = in_range(deserializer, "sizes.events_bytes", 1 << 12, 1 << 28)?;
    if bytes.is_power_of_two() {
        Ok(bytes)
    } else {
        Err(D::Error::custom(format!("sizes.events_bytes is {bytes}, expected a power of two")))
    }
}

fn in_range<'de, D: Deserializer<'de>>(
    deserializer: D,
    name: &str,
    least: u32,
    most: u32,
) -> Result<u32, D::Error> {
    checked(i64::deserialize(deserializer)?, name, least, most)
}

fn checked<E: serde::de::Error>(number: i64, name: &str, least: u32, most: u32) -> Result<u32, E> {
    match u32::try_from(number) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(E::custom(format!("{name} is {number}, expected {least} to {most}"))),
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file says what no setting is.
    #[error("{path}:{line}: {message}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, on one line.
        message: String,
    },
}

impl Config {
    /// Reads the settings. Without a path the default file is read if it exists.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no TOML, has an unknown key or a value out of range.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, is_optional) = match path {
            Some(path) => (path, false),
            None => (Path::new(DEFAULT_PATH), true),
        };
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if is_optional && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Reads settings from text; `path` is for errors, and what a relative policy path starts from
    /// is the working directory, as on the command line.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| {
                text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
            }),
            message: error.message().replace('\n', " "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("agent.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.timeouts.seconds()[Timeout::TcpEstablished as usize], 432_000);
    }

    #[test]
    fn the_documented_file_states_the_defaults() {
        let text = include_str!("../../packaging/agent.toml");
        assert_eq!(parse(text).unwrap(), Config::default());
        // Every key that is commented out is a key, and its value is the default too.
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let config = parse(&uncommented).unwrap();
        assert_eq!(config.policy.as_deref(), Some(Path::new("/etc/sg-agent/policy.d")));
        assert_eq!(Config { policy: None, ..config }, Config::default());
    }

    #[test]
    fn settings_take_effect() {
        let config = parse(
            "policy = \"p.yaml\"\nwatch = false\nlog = \"debug\"\non_change = \"keep\"\n[flows]\ncapacity = 4096\n\
             [timeouts]\ntcp_established = 60\nudp = 5\n[sizes]\nzones = 3\n",
        )
        .unwrap();
        assert_eq!(config.policy.as_deref(), Some(Path::new("p.yaml")));
        assert_eq!((config.watch, config.log, config.on_change), (false, LogLevel::Debug, OnChange::Keep));
        assert_eq!((config.flows.capacity, config.sizes.zones), (4096, 3));
        assert_eq!(config.timeouts.seconds(), [30, 60, 10, 5, 180, 30, 600, 30]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let rows = [
            ("polcy = 1\n", "agent.toml:1: unknown field `polcy`"),
            ("\n[timeouts]\ntcp_established = 59\n", "timeouts.tcp_established is 59, expected 60 to 432000"),
            ("[timeouts]\ntcp = 5\n", "unknown timeout `tcp`, expected one of tcp_opening"),
            ("[flows]\ncapacity = -1\n", "flows.capacity is -1, expected 1024 to 67108864"),
            ("[sizes]\nevents_bytes = 5000\n", "expected a power of two"),
            ("on_change = \"drop\"\n", "unknown variant `drop`"),
            ("watch = \"yes\"\n", "invalid type: string \"yes\", expected a boolean"),
            ("x = \n", "agent.toml:1:"),
        ];
        for (text, expected) in rows {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
