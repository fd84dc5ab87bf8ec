# The boot after the power failed, with a policy that is half written.

moment() { property "$1" "$2"; }

the_last_good_policy_is_in_force_before_the_network_is_up() {
    local status ready pre network
    status=$(cat /run/lab/status-before)
    has "$status" '"name": "lab0"' && has "$status" '"running": true' || return 1
    # IFF_UP is the lowest bit.
    (($(cat /run/lab/flags-before) % 2 == 0)) || { echo "lab0 was up already"; return 1; }
    has "$(cat /run/lab/filters-before)" "sg_tc_ingress" || return 1
    ready=$(moment ActiveEnterTimestampMonotonic sg-agent)
    pre=$(moment ActiveEnterTimestampMonotonic network-pre.target)
    network=$(moment ExecMainStartTimestampMonotonic systemd-networkd)
    echo "vm: microseconds from boot: sg-agent ready $ready, network-pre $pre, networkd starts $network" >/dev/console
    [ "$ready" -gt 0 ] && [ "$ready" -le "$pre" ] && [ "$pre" -le "$network" ]
}

it_is_the_one_that_was_applied_last() {
    # One more rule than the file that was in policy.d had.
    has "$(sg-agent counters --by rule -o json)" "lab/inbound/1"
}

no_denied_packet_has_arrived_since_boot() {
    enforced && [ "$(arrived)" = 0 ] || { echo "$(arrived) arrived"; return 1; }
}

the_status_says_why_the_policy_of_the_file_is_not_in_force() {
    has "$(sg-agent status -o json)" "read the policy /etc/sg-agent/policy.d" && has "$(property StatusText)" "was refused"
}

a_network_that_waits_for_enforcement_does_not_come_up_without() {
    # It did, as long as there was enforcement: its drop-in was there when this machine booted.
    has "$(systemctl cat systemd-networkd)" "ExecStartPre=+/usr/sbin/sg-agent counters" && is_up || return 1
    systemctl stop systemd-networkd systemd-networkd.socket && sg-agent detach --all || return 1
    if systemctl start systemd-networkd; then echo "it comes up" && return 1; fi
}
is_up() { [ "$(property ActiveState systemd-networkd)" = active ]; }

prove the_last_good_policy_is_in_force_before_the_network_is_up
prove it_is_the_one_that_was_applied_last
prove no_denied_packet_has_arrived_since_boot
prove the_status_says_why_the_policy_of_the_file_is_not_in_force
prove a_network_that_waits_for_enforcement_does_not_come_up_without
ended
systemctl poweroff
