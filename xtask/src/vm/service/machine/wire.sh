#!/bin/bash
mkdir -p /run/lab
ip netns add peer
ip link add lab0 type veth peer name peer0 netns peer
ip -n peer link set lo up
ip -n peer link set peer0 up
ip -n peer address add 10.9.0.2/24 dev peer0
