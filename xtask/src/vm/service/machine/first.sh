# The first boot of a host on which the agent has just been installed.

policy() {
    echo "version: 1"
    echo "groups: {lab: {inbound: [{allow: icmp/echo-request, from: 10.9.0.2}$1]}}"
    echo "interfaces: [{match: lab0, groups: [lab]}]"
}

without_a_policy_the_unit_is_active_and_says_that_nothing_is_enforced() {
    is ActiveState active && has "$(property StatusText)" "nothing is enforced" || return 1
    # So what is denied below does arrive when it is not.
    within 30 at_least arrived 5
}

it_runs_with_three_capabilities_and_a_filter_of_system_calls() {
    local status
    status=$(cat "/proc/$(property MainPID)/status")
    has "$status" $'CapEff:\t000000c000001000' && has "$status" $'CapBnd:\t000000c000001000' &&
        has "$status" $'Seccomp:\t2' && has "$status" $'NoNewPrivs:\t1'
}

it_does_not_start_without_any_of_them() {
    local all=-all,+bpf,+net_admin,+perfmon without said
    for without in bpf net_admin perfmon; do
        said=$(timeout 60 setpriv --bounding-set "${all/,+$without/}" --no-new-privs \
            sg-agent --socket /run/other.sock --state-dir /run/other --bpffs /sys/fs/bpf/other run 2>&1) &&
            { echo "it ends well without $without: $said"; return 1; }
        has "$said" "cannot" || return 1
        echo "vm: without $without: ${said##*sg-agent: }" >/dev/console
    done
    sg-agent --bpffs /sys/fs/bpf/other detach --all
}

a_reload_puts_the_first_policy_in_force() {
    policy >/etc/sg-agent/policy.d/lab.yaml
    systemctl reload sg-agent && [ "$(generation)" = 1 ] || return 1
    has "$(property StatusText)" "generation 1 is in force" && enforced
}

nothing_that_it_does_is_refused_by_the_sandbox() {
    local status
    status=$(sg-agent status -o json)
    has "$status" '"problems": []' && has "$status" '"watching": true' && has "$status" '"last_error": null' || return 1
    if journalctl --no-pager --boot --output=cat --unit sg-agent | grep -i "not permitted\|denied\|read-only"; then return 1; fi
}

a_reload_of_a_broken_policy_fails_and_keeps_the_former() {
    echo "groups: {" >/etc/sg-agent/policy.d/lab.yaml
    if systemctl reload sg-agent; then echo "it succeeds" && return 1; fi
    is ActiveState active && [ "$(generation)" = 1 ] && has "$(property StatusText)" "was refused" || return 1
    policy >/etc/sg-agent/policy.d/lab.yaml
    systemctl reload sg-agent && [ "$(generation)" = 1 ] && enforced
}

# Another process than the one named, ready.
restarted() { is ActiveState active && [ "$(property MainPID)" != "$1" ] && sg-agent status -o json | grep -q '"running": *true'; }

a_killed_agent_is_started_again_and_enforcement_goes_on() {
    local process before
    process=$(property MainPID) before=$(arrived)
    systemctl kill --signal KILL sg-agent
    within 60 restarted "$process" && enforced && [ "$(arrived)" = "$before" ]
}

an_agent_that_hangs_is_ended_by_the_watchdog_and_started_again() {
    local process before
    mkdir -p /run/systemd/system/sg-agent.service.d
    printf '[Service]\nWatchdogSec=3s\n' >/run/systemd/system/sg-agent.service.d/watchdog.conf
    systemctl daemon-reload && systemctl restart sg-agent || return 1
    process=$(property MainPID) before=$(arrived)
    kill -STOP "$process"
    within 60 restarted "$process" && enforced && [ "$(arrived)" = "$before" ] || return 1
    has "$(journalctl --no-pager --boot --unit sg-agent)" "Watchdog timeout" || return 1
    rm /run/systemd/system/sg-agent.service.d/watchdog.conf
    systemctl daemon-reload
}

a_stop_ends_no_enforcement() {
    systemctl stop sg-agent || return 1
    is ActiveState inactive && [ "$(generation)" = 1 ] && enforced || return 1
    systemctl start sg-agent && enforced
}

prove without_a_policy_the_unit_is_active_and_says_that_nothing_is_enforced
prove it_runs_with_three_capabilities_and_a_filter_of_system_calls
prove it_does_not_start_without_any_of_them
prove a_reload_puts_the_first_policy_in_force
prove nothing_that_it_does_is_refused_by_the_sandbox
prove a_reload_of_a_broken_policy_fails_and_keeps_the_former
prove a_killed_agent_is_started_again_and_enforcement_goes_on
prove an_agent_that_hangs_is_ended_by_the_watchdog_and_started_again
prove a_stop_ends_no_enforcement

# The next boot finds a file that somebody was writing when the power failed, which it does as soon as a
# policy with one more rule is in force.
echo second >/var/lib/lab/stage
printf 'version: 1\ngroups: {lab: {inbound: [{allow: ic' >/etc/sg-agent/policy.d/lab.yaml
# And a network that is to wait for enforcement.
mkdir -p /etc/systemd/system/systemd-networkd.service.d
printf '[Service]\nExecStartPre=+/usr/sbin/sg-agent counters\n' >/etc/systemd/system/systemd-networkd.service.d/wait.conf
sync
ended
policy ", {allow: tcp/8080, from: 10.9.0.2}" >/run/lab/last.yaml
sg-agent apply /run/lab/last.yaml >/dev/null && echo b >/proc/sysrq-trigger
# There was nothing to apply to.
systemctl poweroff
