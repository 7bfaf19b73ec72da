"""The colours of Okabe and Ito, which people with any kind of colour vision can tell apart."""

BLUE, SKY, ORANGE, VERMILION, GREEN, GREY = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#8A8A8A"
