# export ANTHROPIC_API_KEY=sk-test-old
export ANTHROPIC_API_KEY=sk-ant-test-a
