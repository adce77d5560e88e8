import pytest

from dev.release import find_problems

READY = {
    "version": "1.2.3",
    "changelog": "# Changelog\n\n## 1.2.3 - 2026-11-28\n\n## 1.2.2 - 2026-01-01\n",
    "urls": {"Source": "https://example.com/x"},
    "status": "",
    "tags": "latest\nv1.2.3\n",
    "untracked": "",
}


def test_ready_repository_has_no_problem():
    assert find_problems(**READY) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"urls": {"Source": "https://example.com/OWNER/x", "Other": "https://x.com"}},
            "Replace OWNER in the URL Source",
        ),
        ({"changelog": "# Changelog\n\n## 1.2.3 - unreleased\n"}, "'## 1.2.3 - ' and the date"),
        (
            {"changelog": "# Changelog\n\n## 1.3.0 - unreleased\n\n## 1.2.3 - 2026-11-28\n"},
            "'## 1.2.3 - ' and the date",
        ),
        ({"changelog": ""}, "'## 1.2.3 - ' and the date"),
        ({"status": " M README.md\n"}, "what `git status` lists"),
        ({"status": "?? a.py\n", "untracked": "a.py\n"}, "what `git status` lists"),
        ({"untracked": "docs/a.bak\n"}, "configuration of Git ignores: docs/a.bak"),
        ({"tags": "v1.2.30\n"}, "git tag --sign v1.2.3"),
    ],
)
def test_unready_repository_has_one_problem(change, problem):
    (found,) = find_problems(**{**READY, **change})
    assert problem in found
