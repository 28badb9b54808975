MY_KEY=sk-test-a
export ANTHROPIC_BASE_URL="https://${GW_HOST}/x"
export ANTHROPIC_AUTH_TOKEN=${MY_KEY:-sk-test-b}
