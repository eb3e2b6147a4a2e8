"""The clients: open-loop load, so that whoever is slow is asked no less. Each request has a connection of its own.

A request is lost unless its whole answer came. One line of JSON a request is written when all are over; the line "begun"
is printed when the first is sent.
"""

import asyncio
import json
import random
import sys
import time

# The share in percent, and the least and greatest duration as a fraction of the run's longest.
MIXTURE = {
    "quick": (55, 0.0, 0.0),
    "short": (25, 0.0025, 0.025),
    "medium": (13, 0.025, 0.15),
    "long": (3, 0.25, 1.0),
    "stream": (2, 0.25, 1.0),
    "upload": (2, 0.15, 0.4),
}
PIECE = b"x" * 4096


class Load:
    def __init__(self, port, rate, seconds, longest, patience):
        self.port, self.rate, self.seconds, self.longest, self.patience = port, rate, seconds, longest, patience
        self.random = random.Random(20260801)
        self.results = []

    async def run(self):
        kinds = self.random.choices(list(MIXTURE), [share for share, *_ in MIXTURE.values()], k=int(self.rate * self.seconds))
        print("begun", flush=True)
        began = time.monotonic()
        tasks = []
        for number, kind in enumerate(kinds):
            await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
            _, least, most = MIXTURE[kind]
            lasts = self.random.uniform(least, most) * self.longest
            tasks.append(asyncio.create_task(self.request(kind, lasts)))
        await asyncio.gather(*tasks)

    async def request(self, kind, lasts):
        at = time.monotonic()
        try:
            why = await asyncio.wait_for(self.exchange(kind, lasts), self.patience)
        except asyncio.TimeoutError:
            why = "no answer"
        except (OSError, asyncio.IncompleteReadError) as error:
            why = type(error).__name__
        self.results.append({"kind": kind, "at": at, "end": time.monotonic(), "lost": why})

    async def exchange(self, kind, lasts):
        """Returns why the request was lost; empty if it was served."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            wanted = await self.ask(writer, kind, lasts)
            answer = await reader.read(-1)
        finally:
            writer.close()
        if not answer:
            return "closed without an answer"
        status = answer.split(b" ", 2)[1].decode()
        if status != "200":
            return f"status {status}"
        return "" if wanted in answer else "cut"

    async def ask(self, writer, kind, lasts):
        """Sends the request, and returns the content of a whole reply."""
        def head(method, path, more=""):
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{more}\r\n".encode())

        if kind == "quick":
            head("GET", "/quick")
            return b"quick\n"
        if kind == "stream":
            head("GET", f"/stream?seconds={lasts:.3f}&every={self.longest / 4:.3f}")
            return b"end\n"
        if kind == "upload":
            pieces = 5
            head("POST", "/upload", f"Content-Length: {pieces * len(PIECE)}\r\n")
            for piece in range(pieces):
                if piece:
                    await asyncio.sleep(lasts / (pieces - 1))
                writer.write(PIECE)
                await writer.drain()
            return b"received %d\n" % (pieces * len(PIECE))
        head("GET", f"/work?seconds={lasts:.3f}")
        return b"done\n"


if __name__ == "__main__":
    port, rate, seconds, longest, patience, out = sys.argv[1:]
    load = Load(int(port), float(rate), float(seconds), float(longest), float(patience))
    asyncio.run(load.run())
    with open(out, "w") as file:
        file.writelines(json.dumps(result) + "\n" for result in load.results)
