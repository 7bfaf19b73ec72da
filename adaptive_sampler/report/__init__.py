"""Look at a store: a page for the browser (`html`), and figures, each of which is a Matplotlib figure."""

try:
    from adaptive_sampler.report.figures import choice, data_map, histogram, kept_by_class, save_all
    from adaptive_sampler.report.page import html
    from adaptive_sampler.report.plans import newest_plan
except ModuleNotFoundError as error:
    raise ImportError(f'adaptive_sampler.report needs {error.name}: pip install "adaptive-sampler[report]"') from error

__all__ = ["choice", "data_map", "histogram", "html", "kept_by_class", "newest_plan", "save_all"]
