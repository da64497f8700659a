"""The HTML page as the tests read it."""

from html.parser import HTMLParser

from alpha_sv.report import write_report

ERRORS = ["system", "EER %", "minDCF 0.01", "minDCF 0.05"]
VOID = {"meta", "br", "hr", "img", "link", "input", "wbr"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each tag, tables; complains about unbalanced tags."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else None, data.strip()))
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data if self.open[-1] != "small" else f" {data}"

    def text(self, tag):
        return [text for t, text in self.texts if t == tag]

    def table(self, first):
        """The rows below the header of the tables whose header begins with `first`."""
        return [row for table in self.tables if table[0][: len(first)] == list(first) for row in table[1:]]


def page(tmp_path, *arguments, **options):
    return Page(write_report(tmp_path / "report.html", *arguments, **options).read_text(encoding="utf-8"))
