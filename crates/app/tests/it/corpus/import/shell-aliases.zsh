# providers
alias glm='ANTHROPIC_BASE_URL=https://api.z.ai/api/anthropic ANTHROPIC_AUTH_TOKEN=sk-test-a ANTHROPIC_MODEL=glm-5 claude'
alias kimi="ANTHROPIC_BASE_URL=https://api.moonshot.ai/anthropic ANTHROPIC_AUTH_TOKEN=$KIMI_KEY ANTHROPIC_MODEL=kimi-k2 claude --dangerously-skip-permissions"
alias ll='ls -la'
