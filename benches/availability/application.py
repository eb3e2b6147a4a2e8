"""The application of an instance, behind its nginx: answers late, streams with pauses, reads uploads to their end.

    GET /healthz                   answers at once, for the load balancer
    GET /work?seconds=S            answers after S seconds
    GET /stream?seconds=S&every=E  sends a line each E seconds, and "end" after S
    POST /upload                   says how much it has read
"""

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit


def chunk(text):
    return f"{len(text):x}\r\n{text}\r\n".encode()


async def work(writer, seconds):
    await asyncio.sleep(seconds)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ndone\n")


async def stream(writer, seconds, every):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
    while seconds > 0:
        writer.write(chunk("more\n"))
        await writer.drain()
        await asyncio.sleep(min(every, seconds))
        seconds -= every
    writer.write(chunk("end\n") + b"0\r\n\r\n")


async def upload(reader, writer, length):
    await reader.readexactly(length)
    text = f"received {length}\n"
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())


async def answer(reader, writer):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = urlsplit(head.split(" ", 2)[1])
        query = {name: float(values[0]) for name, values in parse_qs(target.query).items()}
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if target.path == "/healthz":
            await work(writer, 0)
        elif target.path == "/work":
            await work(writer, query["seconds"])
        elif target.path == "/stream":
            await stream(writer, query["seconds"], query["every"])
        else:
            await upload(reader, writer, int(headers["content-length"]))
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(port):
    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
