"""The overlay for a board that boots its vendor's system: the binary, its settings and models, and a systemd unit."""

import shutil
from pathlib import Path

from . import files, models, plans, slot
from .tools import say

MODELS = "/var/lib/firstlight/models"

# What is not here, and why: PrivateDevices and DeviceAllow (cameras, GPU), MemoryDenyWriteExecute (CUDA compiles at run
# time), RestrictRealtime (the loop may get a real-time priority), ProtectKernelModules (a GPU's library loads some).
UNIT = """\
[Unit]
Description=Firstlight: a model that sees
After=local-fs.target systemd-modules-load.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
Environment=FIRSTLIGHT_CONFIG=/etc/firstlight/config.toml
ExecStart=/usr/local/bin/firstlight run
WatchdogSec={watchdog_s}
TimeoutStartSec=120
Restart=always
RestartSec=1
DynamicUser=yes
StateDirectory=firstlight/state
SupplementaryGroups=video dialout
LimitCORE=0
OOMScoreAdjust=-500
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def make(options, board, work):
    """Packs the overlay: `tar -C / -xzf` on the device, then `systemctl daemon-reload` or a reboot."""
    tree = work / "overlay"
    units = tree / "etc/systemd/system"
    for folder in (tree / "usr/local/bin", tree / "etc/firstlight", units / "multi-user.target.wants"):
        folder.mkdir(parents=True)
    shutil.copyfile(options.binary, tree / "usr/local/bin/firstlight")
    ids = models.install(options.model, tree / MODELS.lstrip("/"))
    plans.bake(options, board, tree / MODELS.lstrip("/"))
    slot.settings(options, board, tree, slot.config_text(options, board, ids, MODELS))
    plans.verify(options, board, tree, tree / MODELS.lstrip("/"), whole=False)
    # systemd's watchdog where the board's own is systemd's business.
    watchdog_s = board["watchdog"]["timeout_s"]
    (units / "firstlight.service").write_text(UNIT.format(watchdog_s=watchdog_s))
    (units / "multi-user.target.wants/firstlight.service").symlink_to("../firstlight.service")
    files.set_modes(tree, {"usr/local/bin/firstlight"})
    files.tar_gz(tree, Path(options.output))
    size = Path(options.output).stat().st_size
    say(f"models: {', '.join(ids) or 'the demo inside the binary'}; {size / files.MIB:.1f} MiB")
    return options.output
