"""What a guest sent of its own accord, out of a dump of its network (pcap, as QEMU's filter-dump writes it)."""
import ipaddress
import struct
from pathlib import Path

DHCP = {67, 68, 546, 547}


def packets(path):
    """The Ethernet frames of a dump; a torn last one does not count."""
    data = Path(path).read_bytes()
    order = {0xA1B2C3D4: "<", 0xD4C3B2A1: ">"}[struct.unpack_from("<I", data)[0]]
    at = 24
    while at + 16 <= len(data):
        captured = struct.unpack_from(order + "I", data, at + 8)[0]
        yield data[at + 16:at + 16 + captured]
        at += 16 + captured


def transport(frame):
    """Sender, receiver, protocol and payload of an IP packet; None of anything else, such as ARP."""
    kind, ip = struct.unpack_from(">H", frame, 12)[0], frame[14:]
    if kind == 0x0800:
        return ipaddress.ip_address(ip[12:16]), ipaddress.ip_address(ip[16:20]), ip[9], ip[(ip[0] & 15) * 4:]
    if kind == 0x86DD:
        return ipaddress.ip_address(ip[8:24]), ipaddress.ip_address(ip[24:40]), ip[6], ip[40:]
    return None


def outbound(path, guest):
    """Connections that the address `guest` opened and datagrams that it sent, but those that get it its address."""
    found = set()
    for frame in packets(path):
        packet = transport(frame)
        if not packet or packet[0] != ipaddress.ip_address(guest):
            continue
        _, receiver, protocol, payload = packet
        if protocol == 6 and payload[13] & 0x12 == 0x02:
            found.add(f"tcp {receiver}:{struct.unpack_from('>H', payload, 2)[0]}")
        if protocol == 17 and struct.unpack_from(">H", payload, 2)[0] not in DHCP:
            found.add(f"udp {receiver}:{struct.unpack_from('>H', payload, 2)[0]}")
    return sorted(found)
