//! `metrics`: what `status` and `counters` tell, as numbers for a monitoring system, in the text format of
//! Prometheus. Names, labels and units are stable; a number that nobody knows is left out.
//!
//! See <https://prometheus.io/docs/practices/naming/>.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sg_common::abi::ABI_VERSION;

use crate::view::{Amount, ByInterface, DirectionCounters, Fill, Status};

/// What the text is, as HTTP says it.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What precedes each name.
const PREFIX: &str = "sg_agent";

/// The text of these views.
///
/// # Errors
///
/// Never: a text takes all that is written into it.
pub fn metrics(status: Status, counters: ByInterface) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Known { status, counters }));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What is known at one moment.
#[derive(Debug)]
struct Known {
    status: Status,
    counters: ByInterface,
}

impl Collector for Known {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metrics = Metrics(encoder);
        self.agent(&mut metrics)?;
        self.policy(&mut metrics)?;
        self.interfaces(&mut metrics)?;
        self.packets(&mut metrics)
    }
}

impl Known {
    fn agent(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let agent = &self.status.agent;
        metrics.gauge("running", "Whether the daemon answers", u64::from(agent.running))?;
        let version = agent.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
        let abi = ABI_VERSION.to_string();
        let help = "The agent's version, and that of what it leaves in the kernel";
        let mut build = metrics.0.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_u64).encode(build.encode_family(&[("version", version), ("abi", &abi)])?)?;
        metrics.gauge(
            "problems",
            "What is not as it should be: status names it",
            self.status.problems.len() as u64,
        )?;
        if !agent.running {
            // The rest of this is in the daemon's memory.
            return Ok(());
        }
        metrics.moment("start_time_seconds", "When the daemon was started", agent.started.as_deref())?;
        let is_failed = u64::from(agent.last_error.is_some());
        metrics.gauge(
            "last_change_failed",
            "Whether the latest change was refused, whoever asked for it",
            is_failed,
        )?;
        let is_refused = u64::from(agent.files_refused);
        metrics.gauge(
            "policy_files_refused",
            "Whether what the policy's files say was refused: something else is in force",
            is_refused,
        )?;
        let kinds = self.status.repairs.by_kind.iter();
        metrics.counters(
            "repairs",
            "What others took from the agent's hold on the kernel, and it took back",
            kinds.map(|(kind, count)| ([("kind", kind.as_str())], *count)),
        )
    }

    fn policy(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let status = &self.status;
        metrics.gauge("generation", "The generation in force; 0 is none", status.generation)?;
        let applied = status.applied.as_deref();
        metrics.moment(
            "last_change_timestamp_seconds",
            "When the generation in force was applied",
            applied,
        )?;
        metrics.gauge("rules", "Rules in force, default ones counted", status.rules as u64)?;
        let on_trial = u64::from(status.confirm_by.is_some());
        metrics.gauge("on_trial", "Whether the policy in force waits for its confirmation", on_trial)?;
        metrics.gauge("unlocked", "What is open past the policy", status.unlocked.len() as u64)?;
        if let Some(maps) = &status.maps {
            let Fill { used, capacity } = maps.flows;
            metrics.gauge("flows", "Live flows", used)?;
            metrics.gauge("flows_capacity", "How many flows fit", capacity)?;
        }
        Ok(())
    }

    fn interfaces(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let Status { attachments, not_covered, .. } = &self.status;
        let hooks = || attachments.iter().map(|attachment| attachment.hooks.len());
        let wanted = hooks().filter(|hooks| *hooks > 0).count()
            + not_covered.iter().filter(|interface| interface.is_wanted).count();
        metrics.gauge(
            "interfaces_wanted",
            "Interfaces that the policy is to be enforced on",
            wanted as u64,
        )?;
        let covered = hooks().filter(|hooks| *hooks == 2).count();
        metrics.gauge(
            "interfaces_covered",
            "Interfaces that it is enforced on, in both directions",
            covered as u64,
        )
    }

    fn packets(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let unlocked = self.status.passed_unlocked;
        metrics.counter("unlocked_packets", "Packets that passed past the policy", unlocked.packets)?;
        metrics.counter("unlocked_bytes", "Bytes of frames that passed past the policy", unlocked.bytes)?;
        let allowed = |counters: &DirectionCounters| vec![(None, counters.allowed)];
        self.amounts(metrics, "allowed", "that passed, whatever let them", allowed)?;
        let by_reason = |reasons: &BTreeMap<String, Amount>| {
            reasons.iter().map(|(reason, amount)| (Some(reason.clone()), *amount)).collect()
        };
        self.amounts(metrics, "dropped", "that were dropped", |counters| by_reason(&counters.reasons))?;
        let audited = |counters: &DirectionCounters| by_reason(&counters.audited_reasons);
        self.amounts(metrics, "audited", "that passed under audit and would have been dropped", audited)
    }

    /// Packets and bytes of each interface and direction, and for each reason where there are several.
    fn amounts(
        &self,
        metrics: &mut Metrics<'_>,
        what: &str,
        help: &str,
        of: impl Fn(&DirectionCounters) -> Vec<(Option<String>, Amount)>,
    ) -> fmt::Result {
        let mut amounts = Vec::new();
        for interface in &self.counters.interfaces {
            for (direction, counters) in [("inbound", &interface.inbound), ("outbound", &interface.outbound)]
            {
                for (reason, amount) in of(counters) {
                    let mut labels =
                        vec![("interface", interface.name.clone()), ("direction", direction.to_owned())];
                    labels.extend(reason.map(|reason| ("reason", reason)));
                    amounts.push((labels, amount));
                }
            }
        }
        let packets = amounts.iter().map(|(labels, amount)| (labels.clone(), amount.packets));
        metrics.counters(&format!("{what}_packets"), &format!("Packets {help}"), packets)?;
        let bytes = amounts.iter().map(|(labels, amount)| (labels.clone(), amount.bytes));
        metrics.counters(&format!("{what}_bytes"), &format!("Bytes of frames {help}"), bytes)
    }
}

/// Where metrics go.
struct Metrics<'a>(DescriptorEncoder<'a>);

impl Metrics<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    /// A moment, in seconds since 1970; nothing where it is not known.
    fn moment(&mut self, name: &str, help: &str, time: Option<&str>) -> fmt::Result {
        let seconds = time.and_then(|time| time.parse::<Timestamp>().ok()?.as_second().try_into().ok());
        seconds.map_or(Ok(()), |seconds| self.gauge(name, help, seconds))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{AgentStatus, InterfaceCounters, MapFill, Repairs, Uncovered};

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn everything_that_is_known_has_a_line() {
        let status = Status {
            agent: AgentStatus {
                running: true,
                version: Some("1.2.3".to_owned()),
                started: Some("1970-01-01T00:01:40Z".to_owned()),
                last_error: Some("no".to_owned()),
                files_refused: true,
                ..AgentStatus::default()
            },
            generation: 7,
            applied: Some("1970-01-01T00:02:00Z".to_owned()),
            rules: 9,
            maps: Some(MapFill { flows: Fill { used: 3, capacity: 16 }, ..MapFill::default() }),
            repairs: Repairs { by_kind: [("hook".to_owned(), 2)].into(), ..Repairs::default() },
            not_covered: vec![Uncovered { is_wanted: true, ..Uncovered::default() }, Uncovered::default()],
            ..Status::default()
        };
        let amount = |packets| Amount { packets, bytes: packets * 60 };
        let counters = ByInterface {
            generation: 7,
            interfaces: vec![InterfaceCounters {
                name: "a\"b".to_owned(),
                inbound: DirectionCounters {
                    allowed: amount(5),
                    reasons: [("no_rule".to_owned(), amount(2))].into(),
                    ..DirectionCounters::default()
                },
                ..InterfaceCounters::default()
            }],
        };
        let text = metrics(status, counters).unwrap();
        let abi = ABI_VERSION;
        assert_eq!(
            lines(&text),
            [
                "sg_agent_running 1",
                &format!("sg_agent_build_info{{version=\"1.2.3\",abi=\"{abi}\"}} 1"),
                "sg_agent_problems 0",
                "sg_agent_start_time_seconds 100",
                "sg_agent_last_change_failed 1",
                "sg_agent_policy_files_refused 1",
                "sg_agent_repairs_total{kind=\"hook\"} 2",
                "sg_agent_generation 7",
                "sg_agent_last_change_timestamp_seconds 120",
                "sg_agent_rules 9",
                "sg_agent_on_trial 0",
                "sg_agent_unlocked 0",
                "sg_agent_flows 3",
                "sg_agent_flows_capacity 16",
                "sg_agent_interfaces_wanted 1",
                "sg_agent_interfaces_covered 0",
                "sg_agent_unlocked_packets_total 0",
                "sg_agent_unlocked_bytes_total 0",
                "sg_agent_allowed_packets_total{interface=\"a\\\"b\",direction=\"inbound\"} 5",
                "sg_agent_allowed_packets_total{interface=\"a\\\"b\",direction=\"outbound\"} 0",
                "sg_agent_allowed_bytes_total{interface=\"a\\\"b\",direction=\"inbound\"} 300",
                "sg_agent_allowed_bytes_total{interface=\"a\\\"b\",direction=\"outbound\"} 0",
                "sg_agent_dropped_packets_total{interface=\"a\\\"b\",direction=\"inbound\",reason=\"no_rule\"} 2",
                "sg_agent_dropped_bytes_total{interface=\"a\\\"b\",direction=\"inbound\",reason=\"no_rule\"} 120",
            ]
        );
        for line in ["# TYPE sg_agent_allowed_packets_total counter", "# TYPE sg_agent_generation gauge"] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn without_the_daemon_what_it_alone_knows_is_left_out() {
        let text = metrics(Status::default(), ByInterface::default()).unwrap();
        let lines = lines(&text);
        assert!(lines.contains(&"sg_agent_running 0") && lines.contains(&"sg_agent_generation 0"), "{text}");
        let unknown = ["last_change", "policy_files", "start_time", "repairs", "flows"];
        assert!(unknown.iter().all(|name| !text.contains(&format!("sg_agent_{name}"))), "{text}");
    }
}
