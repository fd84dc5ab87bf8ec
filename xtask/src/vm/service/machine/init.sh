#!/bin/busybox sh
# The first process of a machine that systemd shall boot: finds the disk and hands over to systemd.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    /bin/busybox insmod "$module" || echo "vm: $module does not load"
done
until [ -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 /dev/vda /root || echo "vm: the disk cannot be mounted"
/bin/busybox umount /dev /proc
exec /bin/busybox switch_root /root /sbin/init
