"""What runs the notebooks headless: the story they tell, one strict call per notebook, the engine, the report.

`./run` and `workflow/Snakefile` are the ways in. Analyses do not need this package; notebooks use `study_lib.run`.
"""
