export ANTHROPIC_API_KEY=$(cat /nowhere/key)
alias gw='ANTHROPIC_BASE_URL=https://gw.example ANTHROPIC_AUTH_TOKEN=`op read op://x/y | tr -d "\n"` claude'
