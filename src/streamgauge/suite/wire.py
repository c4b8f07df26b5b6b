"""What Samples tell of the way to the targets: whose stamps, TLS sessions taken up again, redirects followed."""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.facts import MISSING, UNTOLD, Facts


@dataclass(frozen=True, slots=True)
class Wire:
    """What the Samples tell of the way, over all phases."""

    kernel: int = 0
    user: int = 0
    handshakes: int = 0
    resumed: int = 0
    redirected: int = 0
    hops: int = 0

    @property
    def stamps(self) -> str:
        """Whose stamps they are."""
        return "kernel" if not self.user else "user" if not self.kernel else "mixed"

    def notes(self) -> list[str]:
        """What a reader must know of it."""
        notes = []
        if self.user:
            notes.append(
                f"{self.stamps} stamps: the time is (partly) when our loop read the bytes, "
                "not when the kernel received them"
            )
        if self.handshakes:
            notes.append(
                f"TLS: {self.resumed:,} of {self.handshakes:,} handshakes took up an earlier session "
                "(tls.resume = false makes each a full one)"
            )
        if self.hops:
            notes.append(
                f"{self.redirected:,} requests were redirected within their origin, {self.hops:,} times in all; that "
                "time is part of TTFT: asking for the last address itself saves it"
            )
        return notes


def wire_of(facts: Facts) -> Wire:
    """What the Samples tell of it."""
    kernel = facts["kernel_stamps"][facts["first_byte_ns"] != MISSING]
    resumed, hops = facts["tls_resumed"], facts["redirects"]
    return Wire(
        kernel=int(kernel.sum()),
        user=int((~kernel).sum()),
        handshakes=int((resumed != UNTOLD).sum()),
        resumed=int((resumed == 1).sum()),
        redirected=int((hops > 0).sum()),
        hops=int(hops.sum()),
    )
