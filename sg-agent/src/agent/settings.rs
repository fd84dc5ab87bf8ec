//! What the settings mean for the kernel side.

use crate::{
    config::{Config, OnChange},
    kernel::{Settings, Sizes},
};

/// How large things are made, and what may change between two starts.
pub(super) fn of(config: &Config) -> (Sizes, Settings) {
    let sizes = Sizes {
        flows: config.flows.capacity,
        zones: config.sizes.zones,
        rules: config.sizes.rules,
        image_nodes: config.sizes.image_nodes,
        events_bytes: config.sizes.events_bytes,
    };
    let settings = Settings {
        timeouts_seconds: config.timeouts.seconds(),
        keep_flows: config.on_change == OnChange::Keep,
        avoid_tcx: false,
    };
    (sizes, settings)
}
