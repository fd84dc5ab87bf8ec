#!/bin/bash
sg-agent status -o json >/run/lab/status-before
cat /sys/class/net/lab0/flags >/run/lab/flags-before
tc filter show dev lab0 ingress >/run/lab/filters-before
