"""Command `rc2l-bench evidence`."""

from __future__ import annotations

from pathlib import Path

from rc2l_bench.console import console, guarded
from rc2l_bench.errors import BenchError
from rc2l_bench.files import require_checkout, write_atomically


@guarded
def evidence() -> None:
    """Check the evidence of this checkout, and bring what README and docs/ quote from it up to date."""
    from rc2l_bench.config import Params, load
    from rc2l_bench.readers import read_text
    from rc2l_bench.report.evidence import check_folder
    from rc2l_bench.report.quotes import EVIDENCE, Library, refresh

    require_checkout()
    library = Library(EVIDENCE, load(Params, Path("params.yaml")))
    if not library.sets:
        console.print(f"{EVIDENCE}: no evidence yet; `rc2l-bench runs export {EVIDENCE}/NAME` puts finished runs there")
    for name in library.sets:
        count, faults = check_folder(EVIDENCE / name)
        if faults:
            raise BenchError(f"{faults[0]}: `rc2l-bench runs verify {EVIDENCE / name}` lists all that is wrong")
        console.print(f"{EVIDENCE / name}: {count} runs, whole", markup=False)
    # All documents are made before one is written: a marker that asks for what there is not changes nothing.
    documents = {path: read_text(path) for path in documents_of(Path())}
    made = {path: refresh(text, path.as_posix(), library) for path, text in documents.items()}
    for path, (text, changed) in made.items():
        if changed:
            write_atomically(path, text.encode())
            console.print(f"{path}: {len(changed)} quotes brought up to date", markup=False)


def documents_of(root: Path) -> list[Path]:
    """List the documents of a checkout that may quote evidence."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]
