"""Charts and pages of HTML, for reports and the browser: plotly draws, Rich has the words."""
