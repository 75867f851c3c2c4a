# Boots slot A or B, as the slot environment block says. scripts/image compiles this to boot.scr.
#
# The block lies twice outside of every partition, at 1 MiB and at 1 MiB + 64 KiB, in U-Boot's own format (CRC-32 over
# 508 bytes). slot: the committed one. trial: another, to be booted once. tried: whether that was done.

# Free until the initramfs is loaded there; this script may lie at scriptaddr.
setenv block ${ramdisk_addr_r}
${devtype} dev ${devnum}
if ${devtype} read ${block} 0x800 1 && env import -c ${block} 0x200 slot trial tried why a b; then
  echo "firstlight: slot ${slot}, trial ${trial}, tried ${tried}"
elif ${devtype} read ${block} 0x880 1 && env import -c ${block} 0x200 slot trial tried why a b; then
  echo "firstlight: copy 0 of the slot environment is broken; copy 1: slot ${slot}, trial ${trial}, tried ${tried}"
else
  echo "firstlight: both copies of the slot environment are broken"
  setenv slot A; setenv trial; setenv tried 0
fi
if test "${slot}" != B; then setenv slot A; fi

setenv chosen ${slot}
setenv on_trial 0
if test "${trial}" = A || test "${trial}" = B; then
  if test "${tried}" != 1; then
    # Marked in both copies before it is booted, so that whatever happens then, it happens once.
    setenv tried 1
    env export -c -s 0x200 ${block} slot trial tried why a b
    if ${devtype} write ${block} 0x800 1 && ${devtype} write ${block} 0x880 1; then
      setenv chosen ${trial}
      setenv on_trial 1
    else
      echo "firstlight: the disk takes no writes; no trial of slot ${trial}"
    fi
  fi
fi

setenv part 2
if test "${chosen}" = B; then setenv part 3; fi
setenv args
echo "firstlight: booting slot ${chosen} (partition ${part}), trial ${on_trial}"
if load ${devtype} ${devnum}:${part} ${block} cmdline.env && env import -t ${block} ${filesize} args; then
  setenv bootargs "${args} firstlight.slot=${chosen} firstlight.trial=${on_trial}"
  if load ${devtype} ${devnum}:${part} ${kernel_addr_r} Image; then
    if load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} initramfs; then
      booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdtcontroladdr}
    fi
  fi
fi

# After a failed trial the committed slot; else the same again, for a card may have had a bad moment.
echo "firstlight: slot ${chosen} does not boot; reset in 3 s"
sleep 3
reset
