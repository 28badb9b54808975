export EDITOR=vi
alias c=claude
