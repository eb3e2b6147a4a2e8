"""Draws a run: requests served and lost each second, and the instances in service, over the time since the notice."""

WIDTH, LEFT, RIGHT, TOP = 860, 52, 16, 46
PANEL, SMALL, GAP = 150, 70, 30
INK, FAINT, GRID = "#24292f", "#6e7781", "#d8dee4"
SERVED, LOST, IN_SERVICE = "#2da44e", "#cf222e", "#0969da"


def per_second(times, first, last):
    counts = [0] * (last - first)
    for time in times:
        if first <= time < last:
            counts[int(time // 1) - first] += 1
    return counts


class Panel:
    def __init__(self, top, height, first, last, highest, title):
        self.top, self.height, self.first, self.last, self.highest = top, height, first, last, max(highest, 1)
        self.shapes = [f'<text x="{LEFT}" y="{top - 8}" fill="{INK}">{title}</text>']
        for value in (0, self.highest):
            self.shapes.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}" stroke="{GRID}"/>')
            self.shapes.append(f'<text x="{LEFT - 8}" y="{self.y(value) + 4:.1f}" fill="{FAINT}" text-anchor="end">{value:g}</text>')

    def x(self, time):
        return LEFT + (time - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return self.top + self.height * (1 - value / self.highest)

    def bars(self, counts, color):
        width = self.x(1) - self.x(0)
        path = "".join(f"M{self.x(self.first + number):.1f} {self.y(0):.1f}v{self.y(count) - self.y(0):.1f}h{width:.2f}v{self.y(0) - self.y(count):.1f}z"
                       for number, count in enumerate(counts) if count)
        self.shapes.append(f'<path d="{path}" fill="{color}"/>')

    def steps(self, samples, color):
        """`samples`: (time, value), each until the next."""
        before = [value for time, value in samples if time <= self.first]
        inside = [(self.first, value) for value in before[-1:]]
        inside += [(time, value) for time, value in samples if self.first < time < self.last]
        path = "".join(f"{'H' if number else 'M'}{self.x(time):.1f}" + (f"V{self.y(value):.1f}" if number else f" {self.y(value):.1f}")
                       for number, (time, value) in enumerate(inside))
        self.shapes.append(f'<path d="{path}H{self.x(self.last):.1f}" fill="none" stroke="{color}" stroke-width="2"/>')

    def level(self, value, label):
        y = self.y(value)
        self.shapes.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}" stroke-dasharray="4 4"/>')
        self.shapes.append(f'<text x="{WIDTH - RIGHT}" y="{y - 5:.1f}" fill="{FAINT}" text-anchor="end">{label}</text>')

    def mark(self, time, label=""):
        x = self.x(time)
        self.shapes.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{self.top + self.height}" stroke="{INK}" stroke-dasharray="2 3"/>')
        if label:
            self.shapes.append(f'<text x="{x + 4:.1f}" y="{self.top + 12}" fill="{INK}">{label}</text>')


def draw(run):
    """The picture as SVG; `run` is what a run left (see `__main__`), its times counted from the notice."""
    first, last = int(run["begins"]) - 1, int(run["ends"]) + 1
    served = per_second([end for end, lost in run["answers"] if not lost], first, last)
    lost = per_second([end for end, lost in run["answers"] if lost], first, last)
    panels = [Panel(TOP + 20, PANEL, first, last, int(max(served) * 1.25), "requests served a second")]
    panels.append(Panel(panels[-1].top + PANEL + GAP, SMALL, first, last, max(lost), f'requests lost a second: {run["lost"]} of {run["requests"]} in all'))
    most = max([run["desired"] + 1] + [count for _, count in run["in_service"]])
    panels.append(Panel(panels[-1].top + SMALL + GAP, SMALL, first, last, most, f'instances in service: {run["below"]:.1f} s below the desired {run["desired"]}'))
    panels[0].bars(served, SERVED)
    panels[1].bars(lost, LOST)
    panels[2].level(run["desired"], "desired")
    panels[2].steps(run["in_service"], IN_SERVICE)
    for number, panel in enumerate(panels):
        panel.mark(0, "" if number else "notice")
        panel.mark(run["notice"], "" if number else "taken")
    bottom = panels[-1].top + SMALL
    step = 30 if last - first > 100 else 10
    ticks = [f'<text x="{panels[0].x(time):.1f}" y="{bottom + 18}" fill="{FAINT}" text-anchor="middle">{time} s</text>'
             for time in range(first - first % -step, last, step)]
    shapes = [shape for panel in panels for shape in panel.shapes] + ticks
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n<text x="{LEFT}" y="24" font-size="16" fill="{INK}">{run["title"]}</text>\n'
            + "\n".join(shapes) + "\n</svg>\n")
