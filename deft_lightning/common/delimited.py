"""Tables of text as spreadsheets write them: columns separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io


def delimiter(text: str, suffix: str) -> str:
    """What separates the columns of `text`: a tab in .tsv; else what splits the header, and then all rows alike."""
    if suffix.lower() == ".tsv":
        return "\t"
    columns = {}
    for sign in ",;\t":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
        header = next((row for row in reader if row), [])
        if len(header) > 1:  # outside quotes
            columns[sign] = len(header)
    if len(columns) > 1:  # such as the header file;position (x, y)
        even = {sign: count for sign, count in columns.items() if all(len(row) == count for row in rows(text, sign))}
        columns = even or columns
    return max(columns, key=lambda sign: columns[sign], default=",")


def rows(text: str, sign: str) -> list[list[str]]:
    """The rows of `text` that are not empty, as stripped cells."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
    return [[cell.strip() for cell in row] for row in reader if row]


def decimal_comma(sign: str) -> bool:
    """Whether numbers may have a decimal comma: spreadsheets then separate columns by semicolons or tabs."""
    return sign != ","
