"""Citation shared by the rankings by the trained observer's uncertainty: entropy, margin, least confidence."""

PAPER = "Selection via Proxy: Efficient Data Selection for Deep Learning"

BIBTEX = (
    "@inproceedings{coleman2020selection,\n"
    "  title={Selection via Proxy: Efficient Data Selection for Deep Learning},\n"
    "  author={Coleman, Cody and Yeh, Christopher and Mussmann, Stephen and Mirzasoleiman, Baharan and "
    "Bailis, Peter and Liang, Percy and Leskovec, Jure and Zaharia, Matei},\n"
    "  booktitle={International Conference on Learning Representations},\n"
    "  year={2020}\n"
    "}"
)
