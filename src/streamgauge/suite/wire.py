"""What Samples tell of the way to the targets: whose stamps, TLS sessions taken up again, redirects followed."""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.sample import Sample


@dataclass(slots=True)
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

    def add(self, sample: Sample) -> None:
        """Take one Sample in."""
        if sample.first_byte_ns is not None:
            self.kernel, self.user = self.kernel + sample.kernel_stamps, self.user + (not sample.kernel_stamps)
        if sample.tls_resumed is not None:
            self.handshakes, self.resumed = self.handshakes + 1, self.resumed + sample.tls_resumed
        if sample.redirects:
            self.redirected, self.hops = self.redirected + 1, self.hops + sample.redirects

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
