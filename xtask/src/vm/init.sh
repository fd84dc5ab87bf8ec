#!/bin/busybox sh
# The first process of the virtual machine: mounts, loads modules, runs every program in /tests,
# says how each ends, and turns the machine off.
export PATH=/usr/sbin:/bin HOME=/root RUST_BACKTRACE=0 SG_AGENT_BIN=/usr/sbin/sg-agent
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/net /dev/pts
mount -t devpts devpts /dev/pts
ulimit -l unlimited
for module in /modules/*.ko; do
    insmod "$module" || echo "vm: $module does not load"
done
# Nobody else is on it: its clock may be set.
export SG_OWN_MACHINE=1
# Enough to compare kernels, where every packet costs a thousand times what it costs elsewhere.
export SG_AGREEMENT=4:100 SG_ORACLE=2:40
[ -e /etc/record ] && export SG_RECORD=1
ip link set lo up
echo "vm: $(uname -r) is up"
for program in /tests/*; do
    name=${program##*/}
    echo "vm: begun $name"
    # shellcheck disable=SC2046 # every word is the name of a test
    "$program" --test-threads "$(nproc)" --exact $(cat "/etc/tests/$name") </dev/null 2>&1
    echo "vm: ended $name $?"
done
poweroff -f
