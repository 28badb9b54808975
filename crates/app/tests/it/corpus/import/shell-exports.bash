export ANTHROPIC_BASE_URL=${CLAUDE_GW:-https://gw.example}
export ANTHROPIC_AUTH_TOKEN="$(pass show claude/gw)"
