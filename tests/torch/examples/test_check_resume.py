"""docs/examples/check_resume.py says that the loader in it goes on exactly."""

from tests.torch.examples.killed import EXAMPLES, Run


def test_it_says_that_its_loader_goes_on_exactly() -> None:
    assert "it goes on exactly" in Run(EXAMPLES / "check_resume.py").output()
